"""The trainings of a table, as data and as command lines; `launching` starts them.

A run that has finished is never repeated. A run that shares its first stage with another waits for it: runs are
started in two waves. All runs on CPUs have one thread (or, by --threads=0, as many as there are cores): another number
would change their last bits.
"""

import json
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import comparison
import experiments
from experiments import Experiment

from ltjax import provenance
from ltjax.errors import UserError
from ltjax.run import ownership, resuming, start
from ltjax.run.settings import FREE, Settings
from reproduction.items import Item

ONE_THREAD = '--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1'
_SCRIPT = pathlib.Path(__file__).resolve().parent.parent / 'reproduce.py'


class Options(NamedTuple):
    """What is asked of all runs.

    Attributes:
      seeds: of each row.
      out: the folder of the runs, OUT/BENCHMARK/ROW-SEED.
      paths: the files of the benchmarks' data sets, by benchmark; those that need none are left out.
      changes: to all rows, by dotted name.
      threads: of a run on CPUs; 0: as many as there are cores.
    """

    seeds: tuple[int, ...]
    out: pathlib.Path
    paths: Mapping[str, str] = {}
    changes: Mapping[str, Any] = {}
    threads: int = 1


class Run(NamedTuple):
    """A training.

    Attributes:
      item: whose row it is first.
      benchmark: by name.
      row: the experiment's name.
      seed: of the run.
      config: its config.
      workdir: its folder.
      first: the folder of the run that has the same first stage; None: it trains its own.
    """

    item: str
    benchmark: str
    row: str
    seed: int
    config: Any
    workdir: pathlib.Path
    first: pathlib.Path | None

    @property
    def finished(self) -> bool:
        """Whether its results are there."""
        return (self.workdir / 'results.json').exists()


def plan(item: Item, benchmark: str, options: Options) -> dict[str, list[Run]]:
    """Returns the runs of each row on a benchmark, one a seed.

    A row that has the same config as an earlier one, as the middle of a sweep has, is that one's runs. Rows that
    others take their first stage from are planned too, if they are no rows themselves.

    Raises:
      UserError: a row's config has not the key that the row changes.
    """
    known, _ = experiments.read()
    firsts = {each.first for each in item.rows.values() if each.first}
    # The first of equal configs counts: what others start from, then what a sweep starts from.
    names = [*sorted(firsts), *([item.base] if item.base else []), *item.rows]
    made: dict[str, list[Run]] = {name: [] for name in (*sorted(firsts), *item.rows)}
    for seed in options.seeds:
        seen: dict[str, Run] = {}
        for name in dict.fromkeys(names):
            run = _run(name, item.rows.get(name) or known[name], seed, item, benchmark, options)
            text = json.dumps(json.loads(run.config.to_json()), sort_keys=True)
            same = seen.setdefault(text, run)
            if name in made:
                made[name].append(same)
    for each in (run for rows in made.values() for run in rows):
        if each.first is not None:
            each.config.start_from = str(each.first)
    return made


def _run(
    name: str, experiment: Experiment, seed: int, item: Item, benchmark: str, options: Options
) -> Run:
    config = experiments.make_config(
        experiment,
        benchmark,
        seed,
        path=options.paths.get(benchmark, ''),
        changes={**item.changes, **options.changes},
    )
    folder = options.out / benchmark
    first = None
    if experiment.first and config.data.split.fold != -1:
        first = folder / experiments.slug(experiment.first, seed)
    workdir = folder / experiments.slug(name, seed)
    return Run(item.name, benchmark, name, seed, config, workdir, first)


def outdated(run: Run) -> str:
    """Says in what a finished run is not what would be trained now; '' if it is.

    Raises:
      UserError: its config.json is damaged.
    """
    theirs = ownership.read_config(run.workdir)
    ours = json.loads(run.config.to_json())
    differing = provenance.differences(theirs, ours, free=FREE)
    if differing:
        name, was, is_now = differing[0]
        return f'its {name} is {was!r}, and would be {is_now!r} now'
    header = json.loads((run.workdir / 'config.json').read_text('utf-8'))
    if header.get('source') != provenance.source_digest():
        return 'the source of ltjax has changed since'
    return ''


def check_data(run: Run) -> None:
    """Raises UserError if a finished run's data have changed since."""
    results = comparison.results_of(run.workdir)
    resuming.same_data(run.workdir, Settings.of(run.config), results)


def train(run: Run) -> str:
    """Trains a run in this process; returns '' or why it failed, in a line."""
    try:
        start.train(run.config, run.workdir)
    except UserError as error:
        return str(error)
    return ''


def command(run: Run, options: Options) -> list[str]:
    """Returns the command line of one run."""
    words = [sys.executable, str(_SCRIPT), run.item, '--row', run.row, '--seeds', str(run.seed)]
    words += ['--benchmark', run.benchmark, '--out', str(options.out)]
    words += ['--threads', str(options.threads)]
    if run.benchmark in options.paths:
        words += ['--path', options.paths[run.benchmark]]
    for key, value in options.changes.items():
        words += ['--set', f'{key}={value!r}']
    return words


def printed(waves: Sequence[Sequence[Run]], options: Options) -> str:
    """Returns a shell script's lines: those of a wave can run at once, and each wave needs the one before."""
    lines = []
    for number, wave in enumerate(waves):
        if number:
            lines.append('# when those above have ended:')
        lines += [shlex.join(command(run, options)) for run in wave]
    return '\n'.join(lines)


def waves(runs: Sequence[Run]) -> list[list[Run]]:
    """Returns the unfinished ones of some runs: those that others wait for, and these."""
    open_runs = list({run.workdir: run for run in runs if not run.finished}.values())
    missing = {run.workdir for run in open_runs}
    later = [run for run in open_runs if run.first in missing]
    return [wave for wave in ([r for r in open_runs if r not in later], later) if wave]
