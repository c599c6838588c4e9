"""Compares methods honestly: same split, same seeds, equal encoder steps, paired intervals.

    python scripts/compare.py --dataset=fashion_mnist_lt_mini
    python scripts/compare.py --dataset=chula_rbc12 --path=chula_rbc12_32.npz
    python scripts/compare.py --dataset=fashion_mnist_lt_mini --table=lmd

Trains the experiments of a table of scripts/experiments.toml for every seed (finished runs are kept, unfinished
ones are continued), and writes OUT/DATASET-TABLE.md and .json: means over the seeds on the test split, and
differences to the table's references with 95 % intervals from a paired stratified bootstrap. An experiment
that shares its first stage with another one takes it from there: with the same seed it would come out bit for
bit the same.
"""

import argparse
import json
import pathlib
import re
import runpy
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from ltjax import files, huge_pages
from ltjax.command import exits
from ltjax.engine.safeguards import NonFiniteLossError
from ltjax.errors import UserError, unknown
from ltjax.evaluation.bootstrap import paired_bootstrap
from ltjax.run import train

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / 'configs'

EXPERIMENTS_FILE = pathlib.Path(__file__).resolve().with_name('experiments.toml')


class Experiment(NamedTuple):
    """A training: configs/CONFIG.py with changes; `first` names an experiment with the same first stage."""

    config: str
    overrides: Mapping[str, Any] = {}
    first: str = ''


class Table(NamedTuple):
    """Rows of a table, and those of them that all others are compared with."""

    rows: Sequence[str]
    references: Sequence[str]


def read_experiments(
    path: pathlib.Path = EXPERIMENTS_FILE,
) -> tuple[dict[str, Experiment], dict[str, Table]]:
    """Returns the experiments and tables of a TOML file.

    Raises:
      UserError: the file cannot be read, or a table or experiment names one that is not there.
    """
    try:
        content = tomllib.loads(path.read_text('utf-8'))
        experiments = {k: Experiment(**v) for k, v in content['experiments'].items()}
        tables = {k: Table(**v) for k, v in content['tables'].items()}
    except (OSError, tomllib.TOMLDecodeError, TypeError, KeyError) as error:
        raise UserError(f'{path}: {error}: see scripts/experiments.toml for the form.') from None
    firsts = [experiment.first for experiment in experiments.values() if experiment.first]
    for name in [*firsts, *(row for table in tables.values() for row in table.rows)]:
        if name not in experiments:
            raise unknown(f'experiment in {path}', name, experiments)
    for name, table in tables.items():
        if not table.references or not set(table.references) <= set(table.rows):
            raise UserError(f'{path}: the references of the table {name} should be among its rows.')
    return experiments, tables


METRICS = ('balanced_accuracy', 'macro_f1')


def load_config(name: str, dataset: str) -> Any:
    """Returns configs/NAME.py for a data set."""
    return runpy.run_path(str(CONFIGS / f'{name}.py'))['get_config'](dataset)


def make_config(experiment: Experiment, arguments: argparse.Namespace, seed: int) -> Any:
    """Returns the config of one experiment and seed.

    Raises:
      UserError: an override of what the config does not have.
    """
    config = load_config(experiment.config, arguments.dataset)
    epochs = load_config('cross_entropy', arguments.dataset).method.train.epochs
    changes = {k: epochs if v == 'CE' else v for k, v in experiment.overrides.items()}
    try:
        config.lock().update_from_flattened_dict(changes)
    except (KeyError, TypeError) as error:
        raise UserError(f'overrides of configs/{experiment.config}.py: {error.args[0]}') from None
    config.data.path = str(files.user_path(arguments.path)) if arguments.path else ''
    config.seed = seed
    config.save_features = False
    return config


def run_all(
    experiments: Mapping[str, Experiment], arguments: argparse.Namespace
) -> dict[str, list[pathlib.Path]]:
    """Trains what is not trained yet; returns the workdirs of each experiment, one a seed.

    An experiment that diverges for a seed is reported and left out.
    """
    out = arguments.out / arguments.dataset
    runs: dict[str, list[pathlib.Path]] = {name: [] for name in experiments}
    for seed in arguments.seeds:
        for name, experiment in experiments.items():
            config = make_config(experiment, arguments, seed)
            if experiment.first in experiments:
                config.start_from = str(out / slug(experiment.first, seed))
            workdir = out / slug(name, seed)
            try:
                results = train.run(config, workdir)
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
    runs: Mapping[str, Sequence[pathlib.Path]], references: Sequence[str]
) -> dict[str, Any]:
    """Returns means over the seeds and paired differences to the references, by experiment.

    Raises:
      UserError: none of the references is there, or runs were tested on other images.
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
    index = {class_name: k for k, class_name in enumerate(sample['class_names'])}
    metrics: dict[str, Any] = {name: name for name in METRICS}
    for group, values in sample['test']['groups'].items():
        metrics[f'{group}_recall'] = [index[class_name] for class_name in values['classes']]
    table: dict[str, Any] = {}
    for name in runs:
        auc = [r['test']['metrics']['macro_auc']['value'] for r in results[name]]
        table[name] = {
            'macro_auc': float(np.mean(auc)),
            'seconds': [r['seconds'] for r in results[name]],
        }
        for reference in references:
            table[name][f'vs {reference}'] = paired_bootstrap(
                labels, predictions[name], predictions[reference], metrics
            )
    return {'references': references, 'train_counts': sample['train_counts'], 'split_sha256': sample['split_sha256'],
            'versions': sample['versions'], 'experiments': table}  # fmt: skip


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


def markdown(dataset: str, seeds: list[int], comparison: dict[str, Any]) -> str:
    """Lays the comparison out as a table: percent, mean over seeds, differences with 95 % intervals."""
    experiments, references = comparison['experiments'], comparison['references']
    columns = ['method', 'balanced accuracy', 'macro F1', 'head', 'medium', 'tail', 'AUC']
    # Balanced accuracy beside all references, the others beside the first.
    pairs = [('balanced_accuracy', reference) for reference in references]
    pairs += [(metric, references[0]) for metric in ('macro_f1', 'tail_recall')]
    columns += [f'{metric.replace("_", " ")} - {reference}' for metric, reference in pairs]
    lines = [f'{dataset}, seeds {", ".join(map(str, seeds))}; percent, mean over the seeds.', '']
    lines += ['| ' + ' | '.join(columns) + ' |', '|---' * len(columns) + '|']
    for name, row in experiments.items():
        own = row[f'vs {references[0]}']
        names = [*METRICS, 'head_recall', 'medium_recall', 'tail_recall']
        cells = [name] + [f'{100 * own[m]["a"]:.1f}' if m in own else '' for m in names]
        cells.append(f'{100 * row["macro_auc"]:.1f}')
        for metric, reference in pairs:
            d = row[f'vs {reference}'].get(metric)
            cells.append(
                '' if name == reference or d is None
                else f'{100 * d["difference"]:+.1f} [{100 * d["low"]:+.1f}, {100 * d["high"]:+.1f}]'
            )  # fmt: skip
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--dataset', default='fashion_mnist_lt_mini')
    parser.add_argument('--path', default='', help="the data set's file, if it is not embedded")
    parser.add_argument('--seeds', default='0,1,2', help='comma-separated')
    parser.add_argument('--table', default='methods', help='a table of the experiments file')
    parser.add_argument('--only', default='', help='rows of the table, separated by semicolons')
    parser.add_argument(
        '--experiments', default=EXPERIMENTS_FILE, type=files.user_path, metavar='FILE'
    )
    parser.add_argument('--out', default='runs/compare', type=files.user_path)
    arguments = parser.parse_args()
    if not re.fullmatch(r'\d+(,\d+)*', arguments.seeds):
        raise UserError(f'--seeds={arguments.seeds}: give numbers separated by commas.')
    arguments.seeds = [int(seed) for seed in arguments.seeds.split(',')]
    experiments, tables = read_experiments(arguments.experiments)
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
    runs = run_all({name: experiments[name] for name in rows}, arguments)
    comparison = compare(runs, references)
    text = markdown(arguments.dataset, arguments.seeds, comparison)
    stem = f'{arguments.dataset}-{arguments.table}'
    (arguments.out / f'{stem}.md').write_text(text, 'utf-8')
    files.write_json(arguments.out / f'{stem}.json', comparison)
    print('\n' + text)


if __name__ == '__main__':
    huge_pages.restart()
    with exits():
        main()
