"""Intervals for test metrics by the stratified bootstrap.

A resample draws, within each true class, as many test images as the class has, with replacement. It
is held as a weight for each image, so all resamples of a chunk are evaluated at once. The 95 %
intervals are percentiles (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ltjax.errors import unknown
from ltjax.evaluation import confusion
from ltjax.evaluation.confusion import MAX_MATRIX_CLASSES, Tally

LEVEL = (2.5, 97.5)
# Numbers in the largest array of a chunk of resamples: 32 MiB as int64.
_CHUNK_SIZE = 2**22

Metric = Callable[[Tally], np.ndarray]
MetricSpec = str | Sequence[int] | Metric
Interval = dict[str, float | None]


def stratified_weights(
    labels: np.ndarray, num_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns [num_resamples, n] int64: how often each image is drawn, class sizes kept."""
    weights = np.zeros((num_resamples, len(labels)), np.int64)
    rows = np.arange(num_resamples)[:, None]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        size = len(members)
        drawn = rng.integers(size, size=(num_resamples, size)) + rows * size
        counts = np.bincount(drawn.ravel(), minlength=num_resamples * size)
        weights[:, members] = counts.reshape(num_resamples, size)
    return weights


def bootstrap(
    labels: np.ndarray,
    statistic: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    *,
    num_classes: int,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Evaluates a statistic on stratified resamples of the test images.

    Args:
      labels: [n] true classes.
      statistic: maps weights [r, n] to named arrays [r, ...], one entry for each resample.
      num_classes: K, used with n to choose how many resamples are held at once.
      num_bootstrap: number of resamples R.
      seed: seed of the NumPy generator; the same seed gives the same resamples.

    Returns:
      [R, ...] arrays under the statistic's names.
    """
    if num_bootstrap < 1:
        raise ValueError(f'num_bootstrap must be at least 1, not {num_bootstrap}')
    rng = np.random.default_rng(seed)
    parts = [
        dict(statistic(stratified_weights(labels, size, rng)))
        for size in _chunks(num_bootstrap, len(labels), num_classes)
    ]
    # A part is given up once it is joined: with thousands of classes two copies are much.
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in [*parts[0]]}


def _chunks(total: int, num_images: int, num_classes: int) -> Iterator[int]:
    """Yields chunk lengths that add up to `total`.

    The chunks decide what a seed draws. K^2 is the room that confusion matrices would take: without
    it, intervals of a few classes would no longer be those that were published.
    """
    per_class = num_classes**2 if num_classes <= MAX_MATRIX_CLASSES else num_classes
    step = max(1, _CHUNK_SIZE // max(num_images, per_class))
    for start in range(0, total, step):
        yield min(step, total - start)


def interval(value: float, samples: np.ndarray) -> Interval:
    """Returns JSON-able {'value', 'low', 'high'}; all None where the value is undefined (NaN)."""
    return intervals(np.array([value]), samples[:, None])[0]


def intervals(values: np.ndarray, samples: np.ndarray) -> list[Interval]:
    """Returns the interval of each of the values [K], from samples [R, K]."""
    rows = np.stack([values, *np.percentile(samples, LEVEL, axis=0)], axis=1).tolist()
    return [
        dict(zip(('value', 'low', 'high'), [None] * 3 if np.isnan(row[0]) else row, strict=True))
        for row in rows
    ]


def paired_bootstrap(
    labels: np.ndarray,
    runs_a: Sequence[np.ndarray],
    runs_b: Sequence[np.ndarray],
    metrics: Mapping[str, MetricSpec],
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, float | None]]:
    """Compares two methods, run with the same seeds, on the same test images.

    Each resample draws test images once and applies them to both methods and all seeds; the metric
    is averaged over the seeds. The interval therefore covers the choice of test images; the
    variation between training seeds is given apart, as 'seed_std'.

    Args:
      labels: [n] true classes.
      runs_a: for each seed the predicted classes [n], or logits [n, K], of method A.
      runs_b: the same of method B, in the same order of seeds.
      metrics: by name, what to compare: a name in `ltjax.evaluation.confusion.METRICS`, a sequence
        of class indices (the mean recall of those classes), or a function of a
        `ltjax.evaluation.confusion.Tally` with leading axes [...] that returns [...].
      num_bootstrap: number of resamples.
      seed: seed of the resamples.

    Returns:
      By name {'a', 'b', 'difference', 'low', 'high', 'seed_std'}: the means over seeds, A minus B
      with its 95 % interval, and the standard deviation of the difference between seeds (None for
      one seed). All None where the metric is undefined on these labels.

    Raises:
      UserError: a metric name that does not exist.
      ValueError: the numbers of runs or of images do not agree.
    """
    if len(runs_a) != len(runs_b) or not runs_a:
        raise ValueError(f'runs must pair up by seed: got {len(runs_a)} and {len(runs_b)}')
    labels = np.asarray(labels)
    predictions = [_predicted(run) for run in (*runs_a, *runs_b)]
    if any(p.shape != labels.shape for p in predictions):
        raise ValueError('every run must predict each of the labelled images once')
    functions = {name: _metric_function(spec) for name, spec in metrics.items()}
    listed = [max(s) for s in metrics.values() if not isinstance(s, str) and not callable(s)]
    num_classes = 1 + max([int(labels.max()), *(int(p.max()) for p in predictions), *listed])

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        """[r, 2 * seeds] for each metric."""
        values: dict[str, list[np.ndarray]] = {name: [] for name in functions}
        for run in predictions:
            counts = confusion.tally(weights, labels, run, num_classes)
            for name, function in functions.items():
                values[name].append(function(counts))
        return {name: np.stack(columns, axis=1) for name, columns in values.items()}

    point = statistic(np.ones((1, len(labels)), np.int64))
    samples = bootstrap(
        labels, statistic, num_classes=num_classes, num_bootstrap=num_bootstrap, seed=seed
    )
    seeds = len(runs_a)
    return {name: _difference(point[name][0], samples[name], seeds) for name in functions}


def _difference(point: np.ndarray, samples: np.ndarray, seeds: int) -> dict[str, float | None]:
    """Summarises [2 * seeds] values and their [R, 2 * seeds] resamples, method A first."""
    paired = point[:seeds] - point[seeds:]
    resampled = (samples[:, :seeds] - samples[:, seeds:]).mean(1)
    result = interval(paired.mean(), resampled)
    defined = result['value'] is not None
    return {
        'a': float(point[:seeds].mean()) if defined else None,
        'b': float(point[seeds:].mean()) if defined else None,
        'difference': result['value'],
        'low': result['low'],
        'high': result['high'],
        'seed_std': float(paired.std(ddof=1)) if defined and seeds > 1 else None,
    }


def _predicted(run: np.ndarray) -> np.ndarray:
    run = np.asarray(run)
    return run.argmax(-1) if run.ndim == 2 else run.astype(np.int64)


def _metric_function(spec: MetricSpec) -> Metric:
    if isinstance(spec, str):
        if spec not in confusion.METRICS:
            raise unknown('metric', spec, confusion.METRICS)
        return confusion.METRICS[spec]
    if callable(spec):
        return spec
    classes = [int(k) for k in spec]
    return lambda counts: confusion.group_recall(counts, classes)
