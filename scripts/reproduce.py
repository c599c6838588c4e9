"""Makes a table or figure of one of the five papers, or all of a paper: runs, table, picture, page.

    python scripts/reproduce.py --list
    python scripts/reproduce.py lmd/T3 --path isic2019_lt_r100@lmd=PREPARED
    python scripts/reproduce.py lmd/T3 --benchmark=fashion_mnist_lt_mini
    python scripts/reproduce.py lmd --benchmark=chula_rbc12 --path=chula_rbc12_32.npz --seeds=0,1,2 --jobs=4

What a paper shows stands in scripts/reproduction/PAPER.toml. Without --benchmark the rows run on the paper's own data,
which data_prep prepares; with it they run on another set, to see whether a finding carries over. Runs lie in
OUT/BENCHMARK/ROW-SEED, where scripts/compare.py finds them too: a finished one is never repeated, an unfinished one
goes on. OUT/tables gets tables as .md, .csv, .tex and .json, figures as .svg and .png, and a whole paper as PAPER.html.
"""

import argparse
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import experiments
from absl import logging
from reproduction import figures, forms, gradients, items, launching, page, runs, tables
from reproduction.items import Item
from reproduction.launching import Progress
from reproduction.runs import Options, Run

from ltjax import benchmarks, files, huge_pages
from ltjax.command import exits, goes_on
from ltjax.errors import UserError, unknown


def parse() -> argparse.Namespace:
    """Reads the arguments; UserError where they do not go together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', nargs='?', default='', help='PAPER or PAPER/ITEM, such as lmd/T3')
    parser.add_argument('--list', action='store_true', help='show all, and what each needs')
    parser.add_argument('--benchmark', default='', help="another set than the paper's")
    parser.add_argument(
        '--path',
        action='append',
        default=[],
        metavar='[BENCHMARK=]PATH',
        help="a data set's files, of all benchmarks or of one",
    )
    experiments.add_arguments(parser, '0')
    parser.add_argument('--row', default='', help='train this row alone, and write no table')
    parser.add_argument('--jobs', type=int, default=1, help='runs at once on this machine')
    parser.add_argument(
        '--launcher', choices=('slurm', 'local'), help='give the runs to a scheduler, by submitit'
    )
    parser.add_argument(
        '--parameter',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        help="submitit's, such as slurm_partition=gpu",
    )
    parser.add_argument('--print', action='store_true', help='print the command lines of the runs')
    parser.add_argument('--tables', action='store_true', help='train nothing: show what is there')
    parser.add_argument(
        '--threads', type=int, choices=(0, 1), default=1, help='of a run on CPUs; 0: all cores'
    )
    given = parser.parse_args()
    if not given.what and not given.list:
        raise UserError(f'say what: {", ".join(items.papers())}, or one item, such as lmd/T3.')
    if given.jobs < 1:
        raise UserError(f'--jobs={given.jobs}: give one or more.')
    if given.jobs > 1 and given.launcher:
        raise UserError('--jobs is for this machine: the scheduler of --launcher shares out runs.')
    return given


def options(given: argparse.Namespace, wanted: Sequence[Item]) -> Options:
    """Returns what is asked of all runs."""
    paths: dict[str, str] = {}
    of = sorted({each for item in wanted for each in places(item, given.benchmark)})
    for text in given.path:
        name, equals, path = text.partition('=')
        if equals and '@' in name and name not in of:
            raise unknown('benchmark', name, of)
        paths |= {name: path} if equals and name in of else dict.fromkeys(of, text)
    return Options(
        given.seeds,
        given.out,
        {name: str(files.user_path(path)) for name, path in paths.items()},
        dict(map(experiments.parse_change, given.set)),
        given.threads,
    )


def places(item: Item, other: str) -> tuple[str, ...]:
    """Returns the benchmarks that an item runs on."""
    return (benchmarks.get(other).name,) if other and item.rows else item.benchmarks


def lacking(benchmark: str, asked: Options) -> str:
    """Says what a benchmark lacks to be run; '' if nothing."""
    path = asked.paths.get(benchmark)
    if path is None and benchmark != benchmarks.DEFAULT:
        prepare = benchmarks.get(benchmark).prepare
        how = f'python -m data_prep.{prepare}' if prepare else 'bring your own files'
        return f'its data are not given: {how}, then --path {benchmark}=FOLDER'
    if path is not None and not pathlib.Path(path).exists():
        return f'{path} does not exist'
    return ''


def launch(
    planned: Sequence[Run], given: argparse.Namespace, asked: Options
) -> Mapping[pathlib.Path, str]:
    """Trains what is not trained yet; returns why runs failed, by workdir.

    Raises:
      UserError: the data of finished runs have changed since.
    """
    for run in {run.benchmark: run for run in planned if run.finished}.values():
        runs.check_data(run)  # of one on each benchmark: all that are compared are of the same data
    for run in planned:
        if run.finished and (why := runs.outdated(run)):
            print(f'note: {run.workdir} is taken as it is: {why}.')
    waves = runs.waves(planned)
    total = sum(map(len, waves))
    progress = Progress(total, given.jobs)
    if given.tables or not total:
        return progress.failed
    print(f'{total} runs', flush=True)
    if given.launcher:
        parameters = dict(experiments.parse_change(each, '--parameter') for each in given.parameter)
        launching.submitted(waves, asked, given.launcher, parameters, progress)
    elif given.jobs > 1:
        launching.at_once(waves, asked, given.jobs, progress)
    else:
        launching.here(waves, progress)
    return progress.failed


def write(
    item: Item,
    found: Sequence[tables.Found],
    planned: figures.Runs,
    asked: Options,
    folder: pathlib.Path,
) -> page.Made:
    """Writes a table or figure; returns it for the page."""
    stem = item.name.replace('/', '-')
    title = item.title
    if set(planned) != set(item.benchmarks):
        title += f', here on {", ".join(planned)}'
    if item.rows:
        grid = tables.grid(item, found, asked.seeds)
        content: Sequence[object] = [each._asdict() for each in found]
    else:
        grid, content = gradients.grid(item), gradients.plots()
    texts = {
        'md': f'# {item.name}: {title}\n\n{forms.markdown(grid)}',
        'csv': forms.comma_separated(grid),
        'tex': forms.latex(grid, title),
    }
    for suffix, text in texts.items():
        (folder / f'{stem}.{suffix}').write_text(text, 'utf-8')
    files.write_json(folder / f'{stem}.json', content)
    picture = ''
    if item.kind != 'table':
        try:
            drawn = figures.draw(item, found, planned)
        except UserError as error:
            print(f'note: {error}')
        else:
            for suffix, data in drawn.items():
                (folder / f'{stem}.{suffix}').write_bytes(data)
            picture = drawn['svg'].decode()
    print(f'\n{item.name}: {title}\n\n{forms.markdown(grid)}')
    reports = {row: page.reports(row, planned, folder) for row in item.rows}
    return page.Made(item, title, grid, picture, reports)


class Plan(NamedTuple):
    """What is to be run.

    Attributes:
      wanted: the tables and figures.
      runs: by item and benchmark, the runs of each row.
      missing: benchmarks whose data are not there, and why.
      every: the runs whose data are there, each once.
    """

    wanted: list[Item]
    runs: dict[tuple[str, str], dict[str, list[Run]]]
    missing: dict[str, str]
    every: list[Run]


def plan(given: argparse.Namespace, wanted: list[Item], asked: Options) -> Plan:
    """Plans the runs; UserError if there is nothing to run."""
    planned, missing = {}, {}
    for item in wanted:
        for name in places(item, given.benchmark):
            if why := lacking(name, asked):
                missing[name] = why
            planned[item.name, name] = runs.plan(item, name, asked)
    every = {
        run.workdir: run
        for (_, name), rows in planned.items()
        for made in rows.values()
        for run in made
        if name not in missing and (not given.row or run.row == given.row)
    }
    if not every and (given.row or all(item.rows for item in wanted)):
        row = f' row {given.row!r}' if given.row else ' data'
        there = {run.row for rows in planned.values() for made in rows.values() for run in made}
        if given.row and there and given.row not in there:
            raise unknown(f'row of {given.what}', given.row, sorted(there))
        said = '; '.join(f'{name}: {why}' for name, why in missing.items())
        raise UserError(f'{given.what} has no such{row}{f" ({said})" if said else ""}.')
    return Plan(wanted, planned, missing, list(every.values()))


def show(
    made: Plan, failed: Mapping[pathlib.Path, str], given: argparse.Namespace, asked: Options
) -> None:
    """Writes all tables and figures, and of a whole paper its page."""
    folder = given.out / 'tables' / (given.benchmark or 'papers')
    folder.mkdir(parents=True, exist_ok=True)
    sections = []
    for item in made.wanted:
        of = {name: made.runs[item.name, name] for name in places(item, given.benchmark)}
        found = [
            tables.Found(name, None, made.missing[name], {}, {})
            if name in made.missing
            else tables.collect(item, name, rows, failed)
            for name, rows in of.items()
        ]
        sections.append(write(item, found, of, asked, folder))
    if '/' not in given.what:
        title, _ = items.read(given.what)
        whole = folder / f'{given.what}.html'
        whole.write_text(page.whole(title, given.benchmark, sections), 'utf-8')
        print(whole)


def main() -> None:
    """The command."""
    given = parse()
    if given.list:
        print(page.listing(given.benchmark))
        return
    if given.threads:
        os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {runs.ONE_THREAD}'.strip()
        os.environ['OMP_NUM_THREADS'] = '1'
    small = bool(given.benchmark) and not benchmarks.get(given.benchmark).paper
    wanted = items.get(given.what, small=small)
    logging.set_verbosity(logging.WARNING)
    experiments.keep_compiled()
    asked = options(given, wanted)
    made = plan(given, wanted, asked)
    if given.row:
        for run in made.every:
            if why := runs.train(run):
                raise UserError(why)
    elif given.print:
        print(runs.printed(runs.waves(made.every), asked))
    else:
        for name, why in made.missing.items():
            print(f'note: {name} is left out: {why}.')
        with goes_on(str(given.out)):
            show(made, launch(made.every, given, asked), given, asked)


if __name__ == '__main__':
    huge_pages.restart()
    with exits():
        main()
