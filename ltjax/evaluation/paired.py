"""Two methods on the same test images: the difference, its interval, and a test of it.

A difference of two methods varies with the test images and with the training. The first part comes from the
bootstrap: each resample draws images, or whole clusters of them, once for both methods and all seeds. The variance
between seeds gives the second, less what the choice of images already explains of it. With S seeds,

    V = var*(mean over seeds) + max(s^2 - I, 0) / S,
    I = S / (S - 1) (mean of var*(one seed) - var*(mean over seeds)),

where var* is over resamples, s^2 the variance of the S differences, and I what images and seeds do together. The
interval is that of Student's t with the degrees of freedom of Satterthwaite (Biometrics Bulletin, 1946): three seeds
say little of the variance between seeds, and four patients of a class little of that between patients
(`ltjax.evaluation.spread`), and the interval says so by its width.

One patient of a class shows no variance, and two will often agree by chance. What leaving them out does to the
difference then counts as an error of that size, with one degree of freedom.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ltjax.errors import unknown
from ltjax.evaluation import confusion
from ltjax.evaluation.bootstrap import Units, bootstrap
from ltjax.evaluation.confusion import Tally
from ltjax.evaluation.spread import Spread, spread

Metric = Callable[[Tally], np.ndarray]
MetricSpec = str | Sequence[int] | Metric

# A difference is told as one where its corrected p-value is below.
LEVEL = 0.05
# Units of a stratum below which their variance is not to be trusted.
_VARYING = 3
# Strata that are left out at once.
_AT_ONCE = 64
# What `compare` says of a metric.
KEYS = ('a', 'b', 'difference', 'low', 'high', 'p', 'seed_std')


def compare(
    labels: np.ndarray,
    runs_a: Sequence[np.ndarray],
    runs_b: Sequence[np.ndarray],
    metrics: Mapping[str, MetricSpec],
    *,
    clusters: np.ndarray | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, float | None]]:
    """Compares two methods, run with the same seeds, on the same test images.

    The interval covers the choice of test images and, with two seeds or more, the training.

    Args:
      labels: [n] true classes.
      runs_a: for each seed the predicted classes [n], or logits [n, K], of method A.
      runs_b: the same of method B, in the same order of seeds.
      metrics: by name, what to compare: a name in `ltjax.evaluation.confusion.METRICS`, a sequence
        of class indices (the mean recall of those classes), or a function of a
        `ltjax.evaluation.confusion.Tally` with leading axes [...] that returns [...].
      clusters: [n] ints, equal for images that belong together; None: images are independent.
      num_bootstrap: number of resamples.
      seed: seed of the resamples.

    Returns:
      By name {'a', 'b', 'difference', 'low', 'high', 'p', 'seed_std'}: the means over seeds, A minus B
      with its 95 % interval and the two-sided p-value of no difference, and the standard deviation of the
      difference between seeds (None for one seed). All None where the metric is undefined on these labels.

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
    found = bootstrap(
        labels,
        statistic,
        num_classes=num_classes,
        clusters=clusters,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    units = Units(labels, clusters)
    too_few = [stratum for stratum in units.strata if len(stratum) < _VARYING]
    without = {name: np.zeros((0, 2 * len(runs_a))) for name in functions}
    for start in range(0, len(too_few), _AT_ONCE):
        some = too_few[start : start + _AT_ONCE]
        kept = np.ones((len(some), len(units)), np.int64)
        kept[np.arange(len(some)).repeat([len(s) for s in some]), np.concatenate(some)] = 0
        found_without = statistic(kept[:, units.of_image])
        without = {name: np.concatenate([without[name], found_without[name]]) for name in without}
    return {
        name: _difference(
            point[name][0],
            found[name],
            without[name],
            lambda samples: spread(samples, found.drawn, found.strata),
            _largest_difference(metrics[name]),
        )
        for name in functions
    }


def _largest_difference(metric: MetricSpec) -> float:
    """Returns how far two methods can be apart: in kappa 2, in shares 1; of a function it is not known."""
    if callable(metric):
        return np.inf
    return 2.0 if metric == 'quadratic_kappa' else 1.0


def _difference(
    point: np.ndarray,
    samples: np.ndarray,
    without: np.ndarray,
    spread_of: Callable[[np.ndarray], Spread],
    largest: float,
) -> dict[str, float | None]:
    """Summarises values [2 * seeds], those of method A first.

    Args:
      point: the values.
      samples: [R, 2 * seeds] their resamples.
      without: [s, 2 * seeds] the values without each of the strata with too few units.
      spread_of: variance and degrees of freedom of resamples [R, E].
      largest: difference that there can be, at which the interval ends.
    """
    from scipy import stats

    seeds = len(point) // 2
    paired = point[:seeds] - point[seeds:]
    if np.isnan(paired).any():
        return dict.fromkeys(KEYS)
    difference = float(paired.mean())
    resampled = samples[:, :seeds] - samples[:, seeds:]
    left = (without[:, :seeds] - without[:, seeds:]).mean(1)
    of_few = np.where(np.isnan(left), difference, difference - left)
    images, freedom = _between_images(spread_of(resampled.mean(1)[:, None]), of_few)
    error, freedom_of_error = _standard_error(paired, resampled, images, freedom)
    quantile = stats.t.ppf(0.975, freedom_of_error)
    distance = abs(difference) / error if error > 0 else (np.inf if difference else 0.0)
    return {
        'a': float(point[:seeds].mean()),
        'b': float(point[seeds:].mean()),
        'difference': difference,
        'low': max(-largest, float(difference - quantile * error)),
        'high': min(largest, float(difference + quantile * error)),
        'p': float(2 * stats.t.sf(distance, freedom_of_error)),
        'seed_std': float(paired.std(ddof=1)) if seeds > 1 else None,
    }


def _between_images(seen: Spread, of_few: np.ndarray) -> tuple[float, float]:
    """Returns the variance between images and its degrees of freedom, with the errors of strata of too few units."""
    variance = float(seen.variance[0])
    total = variance + float(np.square(of_few).sum())
    uncertain = variance**2 / float(seen.freedom[0]) + float((of_few**4).sum())
    return total, total**2 / uncertain if uncertain > 0 else np.inf


def _standard_error(
    paired: np.ndarray, resampled: np.ndarray, images: float, freedom: float
) -> tuple[float, float]:
    """Returns the square root of V (see the module) and its degrees of freedom."""
    seeds = len(paired)
    if seeds == 1:
        return images**0.5, freedom
    of_mean = float(resampled.mean(1).var())
    both = (float(resampled.var(axis=0).mean()) - of_mean) * seeds / (seeds - 1)
    between = float(paired.var(ddof=1))
    training = (between - both) / seeds
    if training <= 0 or images + training == 0:
        return images**0.5, freedom
    total = images + training
    # The variance of an estimated variance is 2 / (its degrees of freedom) times its square.
    return total**0.5, total**2 / (images**2 / freedom + (between / seeds) ** 2 / (seeds - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values that hold for all comparisons of a table together (Holm, Scand. J. Statistics, 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, float)
    order = np.argsort(values, kind='stable')
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted.tolist()


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
