"""Intervals for test metrics by the stratified bootstrap of whole units: images, or patients with all their images.

Photographs of one lesion, cells of one smear and frames of one video resemble each other, so that many images of few
patients say less than as many images of as many. Where it is known which images belong together, a resample draws
these *clusters* whole (Davison and Hinkley, Bootstrap Methods and their Application, 1997, sec. 3.8). A resample is
held as a weight for each image, so all resamples of a chunk are evaluated at once.

The 95 % intervals are percentiles (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13), those of
few units a little further out, as Student's t is from the normal distribution (Hesterberg, What Teachers Should Know
about the Bootstrap, The American Statistician, 2015, sec. 4.4); how few, says `ltjax.evaluation.spread`. They are
still too narrow where a few units have most of a class's images: no way of resampling knows the units that might have
been drawn and were not.

No class may vanish from a resample, or there would be no average over the classes. Units are therefore drawn within
strata: of the class that is in the fewest units come all units that have it, then of the next class those that are
left, and so on; each stratum keeps its number of units. Images without clusters are thus drawn within their class, and
class sizes are kept. A class that has no stratum of its own, because each of its units also has a rarer class, could
still be missed; a resample that misses one is drawn again.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from ltjax.evaluation.confusion import MAX_MATRIX_CLASSES
from ltjax.evaluation.spread import spread

# Numbers in the largest array of a chunk of resamples: 32 MiB as int64.
_CHUNK_SIZE = 2**22

Interval = dict[str, float | None]


def clusters_of(groups: Sequence[str] | np.ndarray | None) -> np.ndarray | None:
    """Returns int64 [n], a number for each group of images, of names [n]; None if no two images share a group.

    An image whose name is '' is in no group: it gets a number of its own.
    """
    if groups is None:
        return None
    names = np.asarray(groups).astype(np.str_)
    _, numbers = np.unique(names, return_inverse=True)
    alone = names == ''
    numbers[alone] = numbers.max(initial=0) + 1 + np.arange(alone.sum())
    _, numbers = np.unique(numbers, return_inverse=True)
    return numbers if numbers.max(initial=-1) + 1 < len(numbers) else None


class Units:
    """What is drawn in one piece, and from which strata.

    Attributes:
      of_image: int64 [n] the unit of each image.
      strata: the units of each stratum.
    """

    def __init__(self, labels: np.ndarray, clusters: np.ndarray | None = None) -> None:
        """Forms the strata.

        Args:
          labels: [n] int true classes.
          clusters: [n] ints, equal for images that belong together; None: each image is by itself.
        """
        if clusters is None:
            self.of_image = np.arange(len(labels))
        else:
            _, self.of_image = np.unique(clusters, return_inverse=True)
        number = self.of_image.max(initial=-1) + 1
        places = (self.of_image, np.asarray(labels, np.int64))
        has = sparse.csc_array((np.ones(len(labels), np.int64), places)).astype(bool)
        units_of = np.diff(has.indptr)
        free = np.ones(number, bool)
        by_class = {}
        for label in np.argsort(units_of, kind='stable'):
            members = np.sort(has.indices[has.indptr[label] : has.indptr[label + 1]])
            by_class[label] = members[free[members]]
            free[members] = False
        self.strata = [by_class[label] for label in sorted(by_class) if len(by_class[label])]
        without = [k for k in by_class if units_of[k] and not len(by_class[k])]
        self._missable = has[:, without].astype(np.int64) if without else None
        self._number = number

    def __len__(self) -> int:
        return int(self._number)

    def draw(self, num_resamples: int, rng: np.random.Generator) -> np.ndarray:
        """Returns [num_resamples, units] int64: how often each unit is drawn."""
        weights = self._draw(num_resamples, rng)
        while self._missable is not None:
            # A class in m units is missed with a chance below exp(-m), so that this ends soon.
            again = np.flatnonzero(((weights @ self._missable) == 0).any(1))
            if not len(again):
                break
            weights[again] = self._draw(len(again), rng)
        return weights

    def _draw(self, num_resamples: int, rng: np.random.Generator) -> np.ndarray:
        """Returns [num_resamples, units] int64."""
        weights = np.zeros((num_resamples, len(self)), np.int64)
        rows = np.arange(num_resamples)[:, None]
        for members in self.strata:
            size = len(members)
            drawn = rng.integers(size, size=(num_resamples, size)) + rows * size
            counts = np.bincount(drawn.ravel(), minlength=num_resamples * size)
            weights[:, members] = counts.reshape(num_resamples, size)
        return weights


@dataclasses.dataclass(frozen=True, eq=False)
class Resamples:
    """What resamples say of figures.

    Attributes:
      values: float [R, ...] by name.
      drawn: uint8 [R, units] how often each resample has each unit.
      strata: the units of each stratum.
    """

    values: Mapping[Any, np.ndarray]
    drawn: np.ndarray
    strata: Sequence[np.ndarray]

    def __getitem__(self, name: Any) -> np.ndarray:
        return self.values[name]

    def freedom(self, samples: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        """Returns [...] degrees of freedom of the spread of samples [R, ...], in whole numbers.

        Args:
          samples: the figures.
          among: bool [units], those that a figure rests on; None: all.
        """
        strata = self.strata
        if among is not None:
            strata = [own for units in strata if len(own := units[among[units]])]
        found = spread(samples.reshape(len(samples), -1), self.drawn, strata).freedom
        return np.floor(found + 1e-9).reshape(samples.shape[1:])

    def interval(self, name: Any, value: float) -> Interval:
        """Returns {'value', 'low', 'high'} of a figure whose resamples are `values[name]` [R]."""
        return interval(value, self.values[name], float(self.freedom(self.values[name])))


def bootstrap(
    labels: np.ndarray,
    statistic: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    *,
    num_classes: int,
    clusters: np.ndarray | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> Resamples:
    """Evaluates a statistic on stratified resamples of the test images, or of whole clusters of them.

    Args:
      labels: [n] true classes.
      statistic: maps weights [r, n] to named arrays [r, ...], one entry for each resample.
      num_classes: K, used with n to choose how many resamples are held at once.
      clusters: [n] ints, equal for images that belong together, see `clusters_of`; None: images are independent.
      num_bootstrap: number of resamples R.
      seed: seed of the NumPy generator; the same seed gives the same resamples.

    Returns:
      [R, ...] arrays under the statistic's names, and what was drawn.
    """
    if num_bootstrap < 1:
        raise ValueError(f'num_bootstrap must be at least 1, not {num_bootstrap}')
    rng = np.random.default_rng(seed)
    units = Units(labels, clusters)
    drawn = np.empty((num_bootstrap, len(units)), np.uint8)
    parts, done = [], 0
    for size in _chunks(num_bootstrap, len(labels), num_classes):
        weights = units.draw(size, rng)
        drawn[done : done + size] = np.minimum(weights, 255)  # as good as never more than ten
        parts.append(dict(statistic(weights[:, units.of_image])))
        done += size
    # A part is given up once it is joined: with thousands of classes two copies are much.
    joined = {name: np.concatenate([part.pop(name) for part in parts]) for name in [*parts[0]]}
    return Resamples(joined, drawn, units.strata)


def _chunks(total: int, num_images: int, num_classes: int) -> Iterator[int]:
    """Yields chunk lengths that add up to `total`.

    The chunks decide what a seed draws. K^2 is the room that confusion matrices would take: without
    it, intervals of a few classes would no longer be those that were published.
    """
    per_class = num_classes**2 if num_classes <= MAX_MATRIX_CLASSES else num_classes
    step = max(1, _CHUNK_SIZE // max(num_images, per_class))
    for start in range(0, total, step):
        yield min(step, total - start)


def interval(value: float, samples: np.ndarray, freedom: float = np.inf) -> Interval:
    """Returns JSON-able {'value', 'low', 'high'}, see `intervals`, of samples [R]."""
    return intervals(np.array([value]), samples[:, None], freedom)[0]


def intervals(
    values: np.ndarray, samples: np.ndarray, freedom: float | np.ndarray = np.inf
) -> list[Interval]:
    """Returns JSON-able {'value', 'low', 'high'} of figures, with the 95 % intervals that the module describes.

    All three are None where the value is undefined (NaN). Of a figure that some resamples leave undefined (a
    precision, where nothing is called positive) the interval is over the others.

    Args:
      values: float [K].
      samples: float [R, K], their resamples.
      freedom: degrees of freedom, of all of them or [K]: of n units n - 1.
    """
    whole = ~np.isnan(samples).any(0)
    bounds = np.full((2, len(values)), np.nan)
    freedom = np.broadcast_to(freedom, len(values))
    for degrees in np.unique(freedom):
        levels = percentiles(degrees)
        same = freedom == degrees
        bounds[:, whole & same] = np.percentile(samples[:, whole & same], levels, axis=0)
        for k in np.flatnonzero(~whole & same & ~np.isnan(values)):
            defined = samples[~np.isnan(samples[:, k]), k]
            bounds[:, k] = np.percentile(defined, levels) if len(defined) else values[k]
    rows = np.stack([values, *bounds], axis=1).tolist()
    return [
        dict(zip(('value', 'low', 'high'), [None] * 3 if np.isnan(row[0]) else row, strict=True))
        for row in rows
    ]


def percentiles(freedom: float = np.inf) -> np.ndarray:
    """Returns float64 [2], the percentiles that bound 95 % intervals, from the degrees of freedom, n - 1 of n units.

    >>> percentiles().round(6), percentiles(9).round(2)
    (array([ 2.5, 97.5]), array([ 0.86, 99.14]))
    """
    from scipy import stats

    units = freedom + 1
    wider = 1.0 if np.isinf(units) else (units / freedom) ** 0.5
    reach = wider * stats.t.ppf(0.975, freedom)
    return 100 * stats.norm.cdf([-reach, reach])
