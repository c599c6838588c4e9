"""Compares methods honestly: same split, same seeds, equal encoder steps, paired intervals.

    python scripts/compare.py --benchmark=fashion_mnist_lt_mini
    python scripts/compare.py --benchmark=chula_rbc12 --path=chula_rbc12_32.npz
    python scripts/compare.py --benchmark=fashion_mnist_lt_mini --table=lmd
    python scripts/compare.py --benchmark=isic2018@aduni --path=PREPARED --table=aduni --set model.name=resnet34

Trains the experiments of a table of scripts/experiments.toml on one benchmark for every seed (finished runs are kept,
unfinished ones are continued), and writes OUT/BENCHMARK-TABLE.md and .json: means over the seeds on the test split, and
differences to the table's references with 95 % intervals from a paired stratified bootstrap. An experiment
that shares its first stage with another one takes it from there: with the same seed it would come out bit for
bit the same. Rows whose network, pixels or epochs differ from the first reference's are refused, or with
--allow-unequal marked. Folds are pooled (a benchmark's, or --set data.split.folds=5 --set data.split.fold=-1).
"""

import argparse
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import experiments
import jax
import numpy as np
from absl import logging
from experiments import Experiment

from ltjax import benchmarks, files, huge_pages
from ltjax.command import exits
from ltjax.engine.safeguards import NonFiniteLossError
from ltjax.errors import UserError, unknown
from ltjax.evaluation.bootstrap import paired_bootstrap
from ltjax.evaluation.confusion import METRICS as PAIRED
from ltjax.evaluation.groups import GROUP_NAMES
from ltjax.evaluation.table import METRIC_TITLES
from ltjax.run import start

COLUMNS = (
    'balanced_accuracy',
    'macro_f1',
    'head_recall',
    'medium_recall',
    'tail_recall',
    'macro_auc',
)


def run_all(
    rows: Mapping[str, Experiment], arguments: argparse.Namespace
) -> dict[str, list[pathlib.Path]]:
    """Trains what is not trained yet; returns the workdirs of each experiment, one a seed.

    An experiment that diverges for a seed is reported and left out.
    """
    out = arguments.out / arguments.benchmark
    runs: dict[str, list[pathlib.Path]] = {name: [] for name in rows}
    for seed in arguments.seeds:
        for name, experiment in rows.items():
            config = experiments.make_config(experiment, arguments, seed)
            if experiment.first in rows and config.data.split.fold != -1:
                config.start_from = str(out / slug(experiment.first, seed))
            workdir = out / slug(name, seed)
            try:
                results = start.train(config, workdir)
            except NonFiniteLossError as error:
                print(f'{name}, seed {seed}, is left out: {error}', flush=True)
                continue
            score = results['test']['metrics']['balanced_accuracy']['value']
            print(f'{name}, seed {seed}: {score:.1%} in {results["seconds"]:.0f} s', flush=True)
            runs[name].append(workdir)
    return {
        name: workdirs for name, workdirs in runs.items() if len(workdirs) == len(arguments.seeds)
    }


def slug(name: str, seed: int) -> str:
    """Returns an experiment's folder: 'lmd-w-o-rrl-0'."""
    words = ''.join(letter if letter.isalnum() else ' ' for letter in name.lower()).split()
    return f'{"-".join(words)}-{seed}'


def compare(
    runs: Mapping[str, Sequence[pathlib.Path]],
    references: Sequence[str],
    columns: Sequence[str] = COLUMNS,
) -> dict[str, Any]:
    """Returns values of every seed and paired differences to the references, by experiment.

    Args:
      runs: workdirs of each experiment, in the order of the seeds.
      references: those to compare with.
      columns: metrics; the differences are of the first, and of macro F1 and the tail's recall if they are there.

    Raises:
      UserError: none of the references is there, a column is unknown, or runs were tested on other images.
    """
    references = [name for name in references if name in runs]
    if not references:
        raise UserError('none of the experiments to compare with came to its end.')
    results = {
        name: [json.loads((run / 'results.json').read_text('utf-8')) for run in workdirs]
        for name, workdirs in runs.items()
    }
    first = next(iter(runs))
    with np.load(runs[first][0] / 'predictions.npz') as archive:
        like = {name: archive[name] for name in ('ids', 'labels', 'class_names')}
    labels = like['labels']
    for name, made in results.items():
        for run, result in zip(runs[name], made, strict=True):
            check_data(run, result, results[first][0])
    predictions = {
        name: [read_predictions(run / 'predictions.npz', like) for run in runs[name]]
        for name in runs
    }
    sample = results[first][0]
    paired = {
        name: spec
        for name in dict.fromkeys((columns[0], 'macro_f1', 'tail_recall'))
        if name in columns and (spec := _paired(name, sample)) is not None
    }
    table = {
        name: {
            'values': {
                column: [_value(result, column) for result in results[name]] for column in columns
            },
            'seconds': [result['seconds'] for result in results[name]],
        }
        | {
            f'vs {reference}': paired_bootstrap(
                labels, predictions[name], predictions[reference], paired
            )
            for reference in references
        }
        for name in runs
    }
    return {
        'references': references,
        'columns': list(columns),
        'train_counts': sample['train_counts'],
        'split_sha256': sample['split_sha256'],
        'versions': sample['versions'],
        'experiments': table,
    }


def _value(result: Mapping[str, Any], column: str) -> float | None:
    """Returns a metric of a run, or the mean recall of a group; None where there is none."""
    test, group = result['test'], column.removesuffix('_recall')
    if group in GROUP_NAMES:
        figure = test['groups'].get(group, {}).get('recall', {'value': None})
    elif column in METRIC_TITLES:
        figure = test['metrics'].get(column, {'value': None})
    else:
        groups = [f'{name}_recall' for name in GROUP_NAMES]
        raise unknown('column', column, [*METRIC_TITLES, *groups])
    value: float | None = figure['value']
    return value


def _paired(column: str, result: Mapping[str, Any]) -> Any:
    """Returns what `paired_bootstrap` takes for a column, None where it has none."""
    group = column.removesuffix('_recall')
    if group in GROUP_NAMES:
        index = {name: k for k, name in enumerate(result['class_names'])}
        classes = result['test']['groups'].get(group, {}).get('classes', ())
        return [index[name] for name in classes] or None
    return column if column in PAIRED else None


def check_data(run: pathlib.Path, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Refuses a run on other images, or on another split of them; labels and classes are compared by name later.

    Raises:
      UserError: something differs.
    """
    identities = [result['data']['identity'] for result in (ours, theirs)]
    for kind in ('images', 'split', 'contents'):
        if identities[0][kind] != identities[1][kind]:
            raise UserError(
                f'{run} is of other data than the runs beside it (its {kind} differ): remove it.'
            )


def read_predictions(path: pathlib.Path, like: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the predicted classes of the images and in the numbering of another run, matched by ids and names.

    Args:
      path: of a predictions.npz.
      like: 'ids', 'labels' and 'class_names' of the other run.

    Raises:
      UserError: it is of other images, labels or classes.
    """
    with np.load(path) as archive:
        theirs = {name: archive[name] for name in (*like, 'logits')}
    names = theirs['class_names'].tolist()
    if sorted(names) != sorted(like['class_names'].tolist()):
        raise UserError(f'{path} has the classes {", ".join(names)}, unlike the runs beside it.')
    place = {id_: row for row, id_ in enumerate(theirs['ids'].tolist())}
    if sorted(place) != sorted(like['ids'].tolist()):
        raise UserError(
            f'{path} was tested on other images than the runs beside it: remove its run.'
        )
    rows = [place[id_] for id_ in like['ids'].tolist()]
    number = {name: k for k, name in enumerate(like['class_names'].tolist())}
    renumbered = np.array([number[name] for name in names])
    if not np.array_equal(renumbered[theirs['labels'][rows]], like['labels']):
        raise UserError(f'{path} has other labels than the runs beside it: remove its run.')
    return renumbered[theirs['logits'].argmax(axis=1)[rows]]


def markdown(
    benchmark: str, seeds: list[int], comparison: dict[str, Any], marks: Mapping[str, str] = {}
) -> str:
    """Lays the comparison out as a table: percent, mean over seeds, differences with 95 % intervals.

    Args:
      benchmark: its name.
      seeds: of the runs.
      comparison: from `compare`.
      marks: in what rows differ from the first reference, from `experiments.unequal`.
    """
    rows, references = comparison['experiments'], comparison['references']
    columns = comparison['columns']
    # The first column beside all references, the others beside the first.
    pairs = [(columns[0], reference) for reference in references]
    pairs += [(name, references[0]) for name in ('macro_f1', 'tail_recall') if name in columns[1:]]
    header = ['method', *(_title(name) for name in columns)]
    header += [f'{name.replace("_", " ")} - {reference}' for name, reference in pairs]
    lines = [f'{benchmark}, seeds {", ".join(map(str, seeds))}; percent, mean over the seeds.', '']
    lines += ['| ' + ' | '.join(header) + ' |', '|---' * len(header) + '|']
    for name, row in rows.items():
        cells = [f'{name} (not equal: {marks[name]})' if name in marks else name]
        for column in columns:
            values = row['values'][column]
            cells.append('' if None in values else f'{100 * np.mean(values):.1f}')
        for column, reference in pairs:
            d = row[f'vs {reference}'].get(column)
            if name == reference or d is None or d['difference'] is None:
                cells.append('')
                continue
            low, high = 100 * d['low'], 100 * d['high']
            cells.append(f'{100 * d["difference"]:+.1f} [{low:+.1f}, {high:+.1f}]')
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def _title(column: str) -> str:
    title = METRIC_TITLES.get(column, column.removesuffix('_recall'))
    return (
        title.removeprefix('Macro ') if column == 'macro_auc' else f'{title[0].lower()}{title[1:]}'
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--benchmark', default=benchmarks.DEFAULT)
    parser.add_argument('--path', default='', help="the data set's files, if it is not embedded")
    parser.add_argument('--seeds', default='0,1,2', help='comma-separated')
    parser.add_argument('--table', default='methods', help='a table of the experiments file')
    parser.add_argument('--only', default='', help='rows of the table, separated by semicolons')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        help='a change to the config of every row',
    )
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
    parser.add_argument('--out', default='runs/compare', type=files.user_path)
    arguments = parser.parse_args()
    if not re.fullmatch(r'\d+(,\d+)*', arguments.seeds):
        raise UserError(f'--seeds={arguments.seeds}: give numbers separated by commas.')
    arguments.seeds = [int(seed) for seed in arguments.seeds.split(',')]
    arguments.set = dict(map(experiments.parse_change, arguments.set))
    columns = arguments.columns.split(',') if arguments.columns else ()
    reported = benchmarks.get(arguments.benchmark).metrics
    if not columns:  # those of the paper, and the groups
        columns = (*reported, *COLUMNS[2:5]) if reported else COLUMNS
    for column in columns:
        _value(
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
    cache = pathlib.Path('~/.cache/ltjax/xla').expanduser()
    jax.config.update('jax_compilation_cache_dir', str(cache))
    configs = {name: experiments.make_config(known[name], arguments, 0) for name in rows}
    for name, twin in experiments.twins(configs).items():
        print(f'{name} is left out: on {arguments.benchmark} it is the same as {twin}.', flush=True)
        del configs[name]
    marks = experiments.unequal(configs, references[0])
    if marks and not arguments.allow_unequal:
        told = '; '.join(f'{name}: {what}' for name, what in marks.items())
        raise UserError(
            f'rows that are not equal to {references[0]} ({told}): leave them out with --only, make them equal with '
            '--set, or compare them with --allow-unequal, which marks them.'
        )
    runs = run_all({name: known[name] for name in configs}, arguments)
    comparison = compare(runs, references, columns)
    text = markdown(arguments.benchmark, arguments.seeds, comparison, marks)
    stem = f'{arguments.benchmark}-{arguments.table}'
    (arguments.out / f'{stem}.md').write_text(text, 'utf-8')
    files.write_json(arguments.out / f'{stem}.json', comparison)
    print('\n' + text)


if __name__ == '__main__':
    huge_pages.restart()
    with exits():
        main()
