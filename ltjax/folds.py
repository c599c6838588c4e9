"""Cross-validation: one run a fold, and the results of all test folds pooled."""

import copy
import pathlib
import time
from typing import Any

import numpy as np

from ltjax import resume, train
from ltjax import workdir as folder
from ltjax.data import datasets
from ltjax.errors import UserError
from ltjax.evaluation import metrics, report
from ltjax.evaluation.groups import head_medium_tail

ALL = -1  # the value of data.split.fold that asks for every fold


def run(config: Any, workdir: pathlib.Path, *, force: bool = False) -> dict[str, Any]:
    """Trains and tests on every fold in turn; finished folds are kept, an unfinished one is continued.

    Args:
      config: with data.split.fold = ALL, and folds in the data set's files or in data.split.folds.
      workdir: gets a folder fold-K a run, as `train.run` leaves it; and config.json, results.json,
        predictions.npz and report.html of all test folds together, in which every image is tested once,
        by a network that has not seen it (nor its group). Finished, it is not made again.
      force: as in `train.run`.

    Returns:
      What results.json holds; 'folds' has balanced accuracy and macro F1 of each fold.

    Raises:
      UserError: as `train.run`; or the data set has no folds.
    """
    if not force:
        folder.check(workdir, config)
    finished = resume.finished_results(workdir)
    if finished is not None:
        return finished
    started = time.monotonic()
    one = copy.deepcopy(config)
    one.data.split.fold = 0
    count = datasets.load(one.data).num_folds
    if count == 0:
        raise UserError(
            'this data set has no folds: set --config.data.split.folds=5, say, if it brings no split '
            'of its own.'
        )
    folder.claim(workdir, config)
    folder.wait_for_first(workdir, 'config.json')
    with resume.disk_errors(workdir), folder.locked(workdir):
        runs: list[dict[str, Any]] = []
        for fold in range(count):
            one.data.split.fold = fold
            runs.append(train.run(one, workdir / f'fold-{fold}', force=force))
        results = _pool(config, workdir, runs)
        results['seconds'] = time.monotonic() - started
        folder.write_json(workdir / 'results.json', results)
        if folder.is_first_process():
            report.write_report(workdir)
        folder.wait_for_first(workdir, 'report.html')
    return results


def _pool(config: Any, workdir: pathlib.Path, runs: list[dict[str, Any]]) -> dict[str, Any]:
    archives = [np.load(workdir / f'fold-{k}' / 'predictions.npz') for k in range(len(runs))]
    common = set.intersection(*(set(archive.files) for archive in archives))
    pooled = {
        name: np.concatenate([archive[name] for archive in archives]) for name in sorted(common)
    }
    folder.write_npz(workdir / 'predictions.npz', pooled)
    # The classes' sizes differ by little from fold to fold.
    counts = np.mean([run['train_counts'] for run in runs], axis=0).round().astype(int).tolist()
    chosen = {name: list(classes) for name, classes in config.data.groups.items() if classes}
    first = runs[0]
    same = ('method', 'dataset', 'seed', 'class_names', 'image_shape', 'num_parameters', 'versions')
    return {name: first[name] for name in same} | {
        'train_counts': counts,
        'num_folds': len(runs),
        'folds': [
            {
                name: run['test']['metrics'][name]['value']
                for name in ('balanced_accuracy', 'macro_f1')
            }
            for run in runs
        ],
        'split_sha256': [run['split_sha256'] for run in runs],
        'plots': [],
        'test': metrics.evaluate(
            pooled['labels'],
            pooled['logits'],
            class_names=first['class_names'],
            train_counts=counts,
            groups=head_medium_tail(counts, chosen or None),
            num_bootstrap=config.num_bootstrap,
        ),
    }
