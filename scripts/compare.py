"""Compares methods honestly: same split, same seeds, equal encoder steps, paired intervals.

    python scripts/compare.py --dataset=fashion_mnist_lt_mini
    python scripts/compare.py --dataset=chula_rbc12 --path=chula_rbc12_32.npz

Trains every experiment of EXPERIMENTS for every seed (finished runs are kept, unfinished ones are continued),
and writes OUT/DATASET.md and OUT/DATASET.json: means over the seeds on the test split, and differences to
cross-entropy and to LMD with 95 % intervals from a paired stratified bootstrap. An experiment that shares its
first stage with another one takes it from there: with the same seed it would come out bit for bit the same.
"""

import argparse
import json
import pathlib
import re
import runpy
import sys
from typing import Any

import jax
import numpy as np
from absl import logging

from ltjax import train
from ltjax import workdir as folder
from ltjax.engine.loop import NonFiniteLossError
from ltjax.errors import UserError, unknown
from ltjax.evaluation.bootstrap import paired_bootstrap

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / 'configs'

# Name: config file, overrides, experiment whose first stage is shared. The value 'CE' stands for the epochs of
# CE, which are those of both LMD stages together.
EXPERIMENTS: dict[str, tuple[str, dict[str, Any], str]] = {
    'CE': ('cross_entropy', {}, ''),
    'Logit adjustment': ('logit_adjustment', {}, ''),
    'cRT': ('decoupling', {}, 'CE'),
    'CE + VFC, frozen encoder': (
        'lmd',
        {'method.rrl.enabled': False, 'method.rrl.epochs': 'CE', 'method.icc.e_steps': 0},
        'CE',
    ),
    'LMD': ('lmd', {}, ''),
    'LMD w/o RRL': ('lmd', {'method.rrl.enabled': False}, ''),
    'LMD w/o ICC': ('lmd', {'method.icc.enabled': False, 'method.rrl.epochs': 'CE'}, ''),
    'LMD w/o VFC': ('lmd', {'method.icc.vfc': False}, 'LMD'),
    'LMD w/o FDC': ('lmd', {'method.icc.fdc': False}, 'LMD'),
    'LMD, M-step not class-balanced': ('lmd', {'method.icc.balanced_m': False}, 'LMD'),
    'LMD, E-step not class-balanced': ('lmd', {'method.icc.balanced_e': False}, 'LMD'),
    # Its raw Gram matrices diverge at the small sets' rates unless the gradient is clipped.
    'LMD, variant paper': (
        'lmd',
        {'method.variant': 'paper', 'method.rrl.optimizer.clip_norm': 1.0},
        '',
    ),
    'LMD, variant authors': ('lmd', {'method.variant': 'authors'}, ''),
    'ICCL': ('iccl', {}, ''),
    'ProCo': ('proco', {}, ''),
}

METRICS = ('balanced_accuracy', 'macro_f1')


def load_config(name: str, dataset: str) -> Any:
    """Returns configs/NAME.py for a data set."""
    return runpy.run_path(str(CONFIGS / f'{name}.py'))['get_config'](dataset)


def make_config(name: str, arguments: argparse.Namespace, seed: int) -> Any:
    """Returns the config of one experiment and seed."""
    file, overrides, _ = EXPERIMENTS[name]
    config = load_config(file, arguments.dataset)
    epochs = load_config('cross_entropy', arguments.dataset).method.train.epochs
    config.update_from_flattened_dict(
        {key: epochs if value == 'CE' else value for key, value in overrides.items()}
    )
    config.data.path = arguments.path
    config.seed = seed
    config.save_features = False
    return config


def run_all(names: list[str], arguments: argparse.Namespace) -> dict[str, list[pathlib.Path]]:
    """Trains what is not trained yet; returns the workdirs of each experiment, one a seed.

    An experiment that diverges for a seed is reported and left out.
    """
    out = arguments.out / arguments.dataset
    runs: dict[str, list[pathlib.Path]] = {name: [] for name in names}
    for seed in arguments.seeds:
        for name in names:
            config = make_config(name, arguments, seed)
            first = EXPERIMENTS[name][2]
            if first in names:
                config.start_from = str(out / slug(first, seed))
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


def compare(runs: dict[str, list[pathlib.Path]]) -> dict[str, Any]:
    """Returns means over the seeds and paired differences to CE and LMD, by experiment."""
    results = {
        name: [json.loads((run / 'results.json').read_text('utf-8')) for run in workdirs]
        for name, workdirs in runs.items()
    }
    archives = {name: [np.load(run / 'predictions.npz') for run in runs[name]] for name in runs}
    first = next(iter(runs))
    labels, ids = archives[first][0]['labels'], archives[first][0]['ids']
    for name in runs:
        for archive in archives[name]:
            if not np.array_equal(archive['ids'], ids):
                raise UserError(f'{name} was tested on other images than {first}: remove its runs.')
    predictions = {name: [a['logits'].argmax(axis=1) for a in archives[name]] for name in runs}
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
        for reference in ('CE', 'LMD'):
            if reference in runs:
                table[name][f'vs {reference}'] = paired_bootstrap(
                    labels, predictions[name], predictions[reference], metrics
                )
    return {'train_counts': sample['train_counts'], 'split_sha256': sample['split_sha256'],
            'versions': sample['versions'], 'experiments': table}  # fmt: skip


def markdown(dataset: str, seeds: list[int], comparison: dict[str, Any]) -> str:
    """Lays the comparison out as a table: percent, mean over seeds, differences with 95 % intervals."""
    experiments = comparison['experiments']
    references = [r for r in ('CE', 'LMD') if r in experiments]
    columns = ['method', 'balanced accuracy', 'macro F1', 'head', 'medium', 'tail', 'AUC']
    columns += [f'balanced accuracy - {r}' for r in references]
    columns += [f'tail recall - {r}' for r in references]
    lines = [f'{dataset}, seeds {", ".join(map(str, seeds))}; percent, mean over the seeds.', '']
    lines += ['| ' + ' | '.join(columns) + ' |', '|---' * len(columns) + '|']
    for name, row in experiments.items():
        own = row[f'vs {references[0]}']
        names = [*METRICS, 'head_recall', 'medium_recall', 'tail_recall']
        cells = [name] + [f'{100 * own[m]["a"]:.1f}' if m in own else '' for m in names]
        cells.append(f'{100 * row["macro_auc"]:.1f}')
        for metric in ('balanced_accuracy', 'tail_recall'):
            for reference in references:
                d = row[f'vs {reference}'][metric]
                cells.append(
                    '' if name == reference
                    else f'{100 * d["difference"]:+.1f} [{100 * d["low"]:+.1f}, {100 * d["high"]:+.1f}]'
                )  # fmt: skip
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--dataset', default='fashion_mnist_lt_mini')
    parser.add_argument('--path', default='', help="the data set's file, if it is not embedded")
    parser.add_argument('--seeds', default='0,1,2', help='comma-separated')
    parser.add_argument('--only', default='', help='names of experiments, separated by semicolons')
    parser.add_argument('--out', default='runs/compare', type=pathlib.Path)
    arguments = parser.parse_args()
    if not re.fullmatch(r'\d+(,\d+)*', arguments.seeds):
        raise UserError(f'--seeds={arguments.seeds}: give numbers separated by commas.')
    arguments.seeds = [int(seed) for seed in arguments.seeds.split(',')]
    names = [name.strip() for name in arguments.only.split(';') if name.strip()] or [*EXPERIMENTS]
    for name in names:
        if name not in EXPERIMENTS:
            raise unknown('experiment', name, EXPERIMENTS)
    if not {'CE', 'LMD'} & set(names):
        names.insert(0, 'CE')
    names.sort(key=list(EXPERIMENTS).index)
    logging.set_verbosity(logging.WARNING)
    cache = pathlib.Path('~/.cache/ltjax/xla').expanduser()
    jax.config.update('jax_compilation_cache_dir', str(cache))
    comparison = compare(run_all(names, arguments))
    text = markdown(arguments.dataset, arguments.seeds, comparison)
    (arguments.out / f'{arguments.dataset}.md').write_text(text, 'utf-8')
    folder.write_json(arguments.out / f'{arguments.dataset}.json', comparison)
    print('\n' + text)


if __name__ == '__main__':
    try:
        main()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
