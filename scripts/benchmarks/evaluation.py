"""What the evaluation of many classes takes: figures with their intervals, and the report page."""

import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ltjax.evaluation import metrics, whole
from ltjax.evaluation.groups import head_medium_tail
from ltjax.evaluation.predictions import Predictions
from ltjax.evaluation.probabilities import Probabilities
from ltjax.report import writing

from .measure import memory_mb


def many_classes(num_classes: int, per_class: int, *, small: bool) -> dict[str, Any]:
    """Seconds and peak memory, the logits' included, of a balanced test set; seconds and sizes of what is written."""
    num_classes, resamples = (40, 20) if small else (num_classes, 1000)
    labels = np.arange(num_classes).repeat(per_class)
    logits = np.random.default_rng(0).standard_normal((len(labels), num_classes), np.float32)
    # From the first class to the last, training sizes fall to a hundredth, and the share of right images with them.
    logits[np.arange(len(labels)), labels] += np.linspace(5, 2, num_classes)[labels]
    counts = (1000 * 100.0 ** -np.linspace(0, 1, num_classes)).astype(int).tolist()
    settings: dict[str, Any] = {
        'class_names': [f'class {k}' for k in range(num_classes)],
        'train_counts': counts,
        'groups': head_medium_tail(counts),
        'num_bootstrap': resamples,
    }
    test, seconds = timed(lambda: metrics.evaluate(labels, logits, **settings))
    peak = memory_mb()[1]
    with tempfile.TemporaryDirectory() as folder:
        results = pathlib.Path(folder) / 'results.json'
        results.write_text(json.dumps({'test': test}), 'utf-8')
        page, report_seconds = timed(lambda: writing.write_report(results.parent))
        written = {'results_mb': results.stat().st_size, 'report_mb': page.stat().st_size}
    return {
        'classes': num_classes,
        'images': len(labels),
        'resamples': resamples,
        'balanced_accuracy': test['metrics']['balanced_accuracy']['value'],
        'logits_mb': logits.nbytes / 1e6,
        'peak_mb': peak,
        **seconds,
        **{f'report_{name}': value for name, value in report_seconds.items()},
        **{name: size / 1e6 for name, size in written.items()},
    }


def with_groups(num_images: int, num_classes: int, *, small: bool) -> dict[str, Any]:
    """Seconds and peak memory of all that is said of predictions, with groups of three images on average."""
    num_images, resamples = (600, 20) if small else (num_images, 1000)
    rng = np.random.default_rng(0)
    shares = 100.0 ** -np.linspace(0, 1, num_classes)

    def drawn(number: int, prefix: str) -> Predictions:
        labels = np.sort(rng.choice(num_classes, number, p=shares / shares.sum()))
        labels[:num_classes] = np.arange(num_classes)
        logits = rng.standard_normal((number, num_classes), np.float32)
        logits[np.arange(number), labels] += 3
        groups = np.char.add(prefix, rng.integers(number // 3, size=number).astype(str))
        ids = np.char.add(prefix, np.arange(number).astype(str))
        names = tuple(f'class {k}' for k in range(num_classes))
        return Predictions('drawn', ids, labels, names, Probabilities(logits), groups)

    test, validation = drawn(num_images, 't'), drawn(num_images // 5, 'v')
    counts = (1000 * shares).astype(int).tolist()
    found, seconds = timed(
        lambda: whole.evaluate(
            test,
            train_counts=counts,
            groups=head_medium_tail(counts),
            validation=validation,
            num_bootstrap=resamples,
        )
    )
    return {
        'classes': num_classes,
        'images': num_images,
        'groups': found['num_groups'],
        'resamples': resamples,
        'peak_mb': memory_mb()[1],
        **seconds,
    }


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Returns what a function returns, its seconds, and those of user time of all cores, which others do not slow."""
    started, before = time.perf_counter(), os.times().user
    made = work()
    return made, {
        'seconds': time.perf_counter() - started,
        'user_seconds': os.times().user - before,
    }
