"""Cross-validation: one run a fold, and the results of all test folds pooled."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ltjax import files, processes
from ltjax.data import datasets, summary
from ltjax.errors import UserError
from ltjax.evaluation import whole
from ltjax.evaluation.groups import divide
from ltjax.run import ownership, resuming, train
from ltjax.run.settings import Settings

ALL = -1  # the value of data.split.fold that asks for every fold


def run(
    config: ConfigDict | Settings,
    workdir: pathlib.Path,
    *,
    force: bool = False,
    on_round: Callable[[dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Trains and tests on every fold in turn; finished folds are kept, an unfinished one is continued.

    Args:
      config: with data.split.fold = ALL, and folds in the data set's files or in data.split.folds.
      workdir: gets a folder fold-K a run, as `train.run` leaves it; and config.json, results.json,
        predictions.npz, model_card.md and report.html of all test folds together, in which every image is tested once,
        by a network that has not seen it (nor its group). Finished, it is not made again.
      force: as in `train.run`.
      on_round: as in `train.run`, for one fold after the other.

    Returns:
      What results.json holds; 'folds' has the metrics of each fold by itself.

    Raises:
      UserError: as `train.run`; or the data set has no folds.
    """
    settings = Settings.of(config)
    ownership.check_place(workdir, settings)
    finished = resuming.finished_results(workdir)
    if finished is not None or not force:
        ownership.check(workdir, settings)
    if finished is not None:
        resuming.same_data(workdir, settings, finished)
        return finished
    started = time.monotonic()
    numbers = datasets.folds(settings.data)
    if not numbers:
        raise UserError(
            'this data set has no folds: set --config.data.split.folds=5, say, if it brings no split '
            'of its own.'
        )
    ownership.claim(workdir, settings)
    processes.wait_for_first(workdir, 'config.json')
    with ownership.disk_errors(workdir), ownership.locked(workdir):
        runs: list[dict[str, Any]] = []
        for fold in numbers:
            one = settings.replace('data.split.fold', fold)
            folder = workdir / f'fold-{fold}'
            runs.append(train.run(one, folder, force=force, on_round=on_round))
        results = _pool(settings, workdir, numbers, runs)
        told = [line for run in runs for line in summary.warnings(run['data'])]
        results['test']['warnings'] += list(dict.fromkeys(told))
        results['seconds'] = time.monotonic() - started
        train.finish(workdir, results)
    return results


def _pool(
    settings: Settings, workdir: pathlib.Path, numbers: Sequence[int], runs: list[dict[str, Any]]
) -> dict[str, Any]:
    archives = [_read(workdir / f'fold-{fold}' / 'predictions.npz') for fold in numbers]
    first = runs[0]
    _check_pool(workdir, first, runs, archives)
    common = set.intersection(*map(set, archives))
    pooled = {
        name: np.concatenate([archive[name] for archive in archives])
        for name in sorted(common - {'class_names', 'data_sha256'})
    }
    pooled['class_names'] = archives[0]['class_names']
    pooled['data_sha256'] = np.array([archive['data_sha256'] for archive in archives])
    if processes.is_first():
        files.write_npz(workdir / 'predictions.npz', pooled)
    # The classes' sizes differ by little from fold to fold.
    counts = np.mean([run['train_counts'] for run in runs], axis=0).round().astype(int).tolist()
    same = ['method', 'dataset', 'benchmark', 'seed', 'class_names', 'image_shape']
    same += ['num_parameters', 'num_trained', 'versions', 'method_title', 'paper', 'pretrained']
    # Folds of an earlier version lack some of them.
    return {name: first[name] for name in same if name in first} | {
        'train_counts': counts,
        'num_folds': len(runs),
        'fold_numbers': list(numbers),
        'data': summary.pooled([run['data'] for run in runs]),
        'folds': [
            {name: figure['value'] for name, figure in run['test']['metrics'].items()}
            for run in runs
        ],
        'split_sha256': [run['split_sha256'] for run in runs],
        'plots': [],
        'test': whole.evaluate(
            train.of_arrays(pooled),
            train_counts=counts,
            groups=divide(dataclasses.asdict(settings.data.groups), counts, first['class_names']),
            ordered=first['data']['class_order']['ordered'],
            num_bootstrap=settings.num_bootstrap,
        ),
    }  # fmt: skip


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return dict(archive)


def _check_pool(
    workdir: pathlib.Path, first: dict[str, Any], runs: list[dict[str, Any]], archives: list[Any]
) -> None:
    """Refuses folds of different data, or that test an image twice or never."""
    for run in runs:
        theirs, ours = run['data']['identity'], first['data']['identity']
        kinds = ('images', 'classes', 'labels', 'contents')
        if differing := [kind for kind in kinds if theirs[kind] != ours[kind]]:
            raise UserError(
                f'the folds of {workdir} are of different data ({", ".join(differing)}): give another --workdir.'
            )
    ids, times = np.unique(np.concatenate([each['ids'] for each in archives]), return_counts=True)
    if times.max() > 1 or len(ids) != first['data']['images']:
        twice = f'{ids[times.argmax()]} is tested twice' if times.max() > 1 else 'some are never'
        raise UserError(
            f'the folds of {workdir} do not test each of {first["data"]["images"]} images once ({twice}): give '
            'another --workdir.'
        )
