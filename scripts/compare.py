"""Compares methods honestly: same split, same seeds, equal encoder steps, paired intervals.

    python scripts/compare.py --benchmark=fashion_mnist_lt_mini
    python scripts/compare.py --benchmark=chula_rbc12 --path=chula_rbc12_32.npz
    python scripts/compare.py --benchmark=fashion_mnist_lt_mini --table=lmd
    python scripts/compare.py --benchmark=isic2018@aduni --path=PREPARED --table=aduni --set model.name=resnet34

Trains the experiments of a table of scripts/experiments.toml on one benchmark for every seed (finished runs are kept,
unfinished ones are continued), and writes OUT/BENCHMARK-TABLE.md and .json: means over the seeds on the test split, and
differences to the table's references with 95 % intervals that cover the choice of test images, drawn by patient where
that is known, and the training. An experiment
that shares its first stage with another one takes it from there: with the same seed it would come out bit for bit the
same. Behind a row's name stands what it takes more than others, such as two passes a step. Rows whose network, pixels
or epochs differ from the first reference's are refused, or with --allow-unequal marked. Folds are pooled (a
benchmark's, or --set data.split.folds=5 --set data.split.fold=-1).
"""

import argparse
import pathlib
from collections.abc import Mapping

import experiments
from absl import logging
from comparison import COLUMNS, compare, markdown, value
from experiments import Experiment

from ltjax import benchmarks, files, huge_pages
from ltjax.command import exits
from ltjax.engine.safeguards import NonFiniteLossError
from ltjax.errors import UserError, unknown
from ltjax.run import start


def run_all(
    rows: Mapping[str, Experiment], arguments: argparse.Namespace
) -> tuple[dict[str, list[pathlib.Path]], dict[str, str]]:
    """Trains what is not trained yet.

    Returns:
      The workdirs of each experiment, one a seed; and of experiments that diverge for a seed, or cannot be trained on
      these data (such as batches that the classes cannot share), why they are left out.

    Raises:
      UserError: the first one cannot be trained, with which all are compared.
    """
    out = arguments.out / arguments.benchmark
    runs: dict[str, list[pathlib.Path]] = {name: [] for name in rows}
    lacking = {}
    for seed in arguments.seeds:
        for name, experiment in rows.items():
            config = experiments.make_config(
                experiment, arguments.benchmark, seed, path=arguments.path, changes=arguments.set
            )
            if experiment.first in rows and config.data.split.fold != -1:
                config.start_from = str(out / experiments.slug(experiment.first, seed))
            workdir = out / experiments.slug(name, seed)
            try:
                results = start.train(config, workdir)
            except (NonFiniteLossError, UserError) as error:
                if name == next(iter(rows)):
                    raise
                lacking[name] = f'seed {seed}: {error}'
                print(f'{name} is left out, {lacking[name]}', flush=True)
                continue
            score = results['test']['metrics']['balanced_accuracy']['value']
            print(f'{name}, seed {seed}: {score:.1%} in {results["seconds"]:.0f} s', flush=True)
            runs[name].append(workdir)
    whole = {name: made for name, made in runs.items() if len(made) == len(arguments.seeds)}
    return whole, lacking


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--benchmark', default=benchmarks.DEFAULT)
    parser.add_argument('--path', default='', help="the data set's files, if it is not embedded")
    experiments.add_arguments(parser, '0,1,2')
    parser.add_argument('--table', default='methods', help='a table of the experiments file')
    parser.add_argument('--only', default='', help='rows of the table, separated by semicolons')
    parser.add_argument(
        '--columns',
        default='',
        help='metrics, comma-separated; default: what the paper reports, and groups',
    )
    parser.add_argument(
        '--allow-unequal',
        action='store_true',
        help='compare rows whose network, pixels or epochs differ',
    )
    parser.add_argument(
        '--experiments', default=experiments.FILE, type=files.user_path, metavar='FILE'
    )
    arguments = parser.parse_args()
    arguments.set = dict(map(experiments.parse_change, arguments.set))
    columns = arguments.columns.split(',') if arguments.columns else ()
    reported = benchmarks.get(arguments.benchmark).metrics
    if not columns:  # those of the paper, and the groups
        columns = (*reported, *COLUMNS[2:5]) if reported else COLUMNS
    for column in columns:
        value(
            {'test': {'groups': {}, 'metrics': {}}}, column
        )  # a mistake shows before the training
    known, tables = experiments.read(arguments.experiments)
    if arguments.table not in tables:
        raise unknown('table', arguments.table, tables)
    rows, references = tables[arguments.table]
    only = [name.strip() for name in arguments.only.split(';') if name.strip()]
    for name in only:
        if name not in rows:
            raise unknown(f'row of the table {arguments.table}', name, rows)
    if only:  # and something to compare them with
        rows = [name for name in rows if name in only or name == references[0]]
    logging.set_verbosity(logging.WARNING)
    experiments.keep_compiled()
    configs = {
        name: experiments.make_config(
            known[name], arguments.benchmark, 0, path=arguments.path, changes=arguments.set
        )
        for name in rows
    }
    for name, twin in experiments.twins(configs).items():
        print(f'{name} is left out: on {arguments.benchmark} it is the same as {twin}.', flush=True)
        del configs[name]
    unequal = experiments.unequal(configs, references[0])
    if unequal and not arguments.allow_unequal:
        told = '; '.join(f'{name}: {what}' for name, what in unequal.items())
        raise UserError(
            f'rows that are not equal to {references[0]} ({told}): leave them out with --only, make them equal with '
            '--set, or compare them with --allow-unequal, which marks them.'
        )
    runs, lacking = run_all({name: known[name] for name in configs}, arguments)
    comparison = compare(runs, references, columns)
    marks = experiments.marks(configs, unequal)
    text = markdown(arguments.benchmark, arguments.seeds, comparison, marks, lacking)
    stem = f'{arguments.benchmark}-{arguments.table}'
    (arguments.out / f'{stem}.md').write_text(text, 'utf-8')
    files.write_json(arguments.out / f'{stem}.json', comparison)
    print('\n' + text)


if __name__ == '__main__':
    huge_pages.restart()
    with exits():
        main()
