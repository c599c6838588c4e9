"""How well probabilities mean what they say: calibration errors, proper scores, reliability.

Of each prediction p [K] with true class y the confidence is max p, and it is correct if argmax p = y.

- `top_label_ece`: sum over the bins b of n_b / n |accuracy_b - mean confidence_b|, the expected
  calibration error of the most probable class (Naeini et al., AAAI 2015; Guo et al., ICML 2017,
  eq. 3), in bins of equal mass, not of equal width (Nixon et al., CVPR workshops 2019).
- `class_wise_ece`: for each class k the same of p_k against "y = k" over all images, and the mean of that over
  the classes with test images (Kull et al., NeurIPS 2019, who average over all classes and use bins of equal
  width; the adaptive error of Nixon et al. has bins of equal mass, and counts each alike). A rare class has p_k
  near zero on nearly all images, so its error is small as a number even if p_k is wrong by a factor: compare it
  between models, not between classes.
- `brier`: mean over the images of sum_k (p_k - [y = k])^2, from 0 to 2 (Brier, 1950). scikit-learn
  halves it for two classes.
- `log_loss`: mean over the images of -log p_y, p_y clipped to [eps, 1 - eps] with the eps of
  float64, 2.2e-16, as scikit-learn clips: an image whose true class has probability zero costs 36.04.

**Bins** hold the same number of images, to within one; they are those of scikit-learn's
`calibration_curve(strategy='quantile')`, but that its edges are rounded. They are made once, from the scores
of the test images, and kept in every resample. Equal scores lie in one bin, which may then be larger, and bins
fewer. netcal's `ECE(equal_intervals=False)` agrees but for a score that equals an edge, which it puts into the
higher bin. MAPIE's 'array split' agrees on sorted scores where the number of bins divides that of the images; its
'quantile' has one bin fewer, and one of the lowest score alone; its 'top label' error bins the images of each
predicted class apart (Gupta and Ramdas, 2021).

**A calibration error is biased upwards.** In a bin of m images an accuracy misses its expectation by up to
0.4 / sqrt(m) on average, and the error counts misses as positive: a perfectly calibrated model has an error
above zero, the larger the fewer images there are (Kumar et al., NeurIPS 2019). A resample adds as much noise
again, so percentile intervals lie high: of 160 simulated test sets with calibrated probabilities, 50 to 5,000
images each, they lay wholly above the value in 48. A group of few images shows little else. `brier` and
`log_loss` have no bins and no such bias.

**Class groups** are of the true class. Brier score and log loss are means over images, and divide
among groups. A calibration error does not: see `reliability`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from ltjax.evaluation.bootstrap import percentiles

# The set of all images, among the names of groups.
ALL = 'all'
# Equal parts of [0, 1] in which `reliability` counts confidences.
HISTOGRAM_PARTS = 20

Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]


def equal_mass(scores: np.ndarray, bins: int) -> np.ndarray:
    """Returns [n] int bins of scores [n], from the lowest: none is empty, equal scores share one."""
    last = np.arange(1, bins) * (len(scores) - 1) // bins
    return np.searchsorted(np.unique(np.sort(scores)[last]), scores)


def measures(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    bins: int = 15,
) -> Statistic:
    """Returns the measures above as a function of how often each test image is drawn.

    Args:
      labels: [n] int true classes.
      probabilities: [n, K] float64, rows sum to one. In Fortran order they are not copied.
      groups: class indices by group.
      bins: how many bins; there are fewer where there are fewer distinct scores.

    Returns:
      A function of int weights [r, n] that returns named float64 arrays [r]: 'top_label_ece',
      'class_wise_ece', 'brier' and 'log_loss', and the same of each group, such as 'tail brier'. Of
      a group the first has bins of equal mass among its own images, and 'class_wise_ece' is the mean
      over its classes, each computed on all images. NaN for a group without test images, and, but
      for 'class_wise_ece', where a resample has none of it. The work is one sparse product [bins, n]
      times [n, r] for each class with test images.
    """
    columns = np.asfortranarray(probabilities)
    num_images, num_classes = columns.shape
    tested = np.flatnonzero(np.bincount(labels, minlength=num_classes))
    places = np.empty((len(tested), num_images), np.min_scalar_type(bins))
    for row, k in enumerate(tested):
        places[row] = equal_mass(columns[:, k], bins)
    image_numbers = np.arange(num_images + 1)
    sums = {
        name: _sums(members, labels, columns, bins)
        for name, members in _image_sets(labels, groups).items()
    }
    # Which of the tested classes are of each set.
    chosen = {name: np.isin(tested, groups.get(name, tested)) for name in sums}

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        by_image = np.ascontiguousarray(weights.T, np.float64)
        errors = np.empty((len(tested), len(weights)))
        for row, k in enumerate(tested):
            # A column an image: the weights are read in order, and the few sums stay in the cache.
            gaps = sparse.csc_array(
                (columns[:, k] - (labels == k), places[row], image_numbers), (bins, num_images)
            )
            errors[row] = np.abs(gaps @ by_image).sum(0)
        errors /= by_image.sum(0)
        values = {}
        for name, matrix in sums.items():
            before = '' if name == ALL else f'{name} '
            added = matrix @ by_image
            drawn, squares, losses, gaps = added[0], added[1], added[2], np.abs(added[3:]).sum(0)
            values[f'{before}top_label_ece'] = _ratio(gaps, drawn)
            values[f'{before}class_wise_ece'] = _ratio(chosen[name] @ errors, chosen[name].sum())
            values[f'{before}brier'] = _ratio(squares, drawn)
            values[f'{before}log_loss'] = _ratio(losses, drawn)
        return values

    return statistic


def bin_accuracies(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    bins: int = 15,
) -> Statistic:
    """Returns the accuracies of `reliability` as a function of how often each image is drawn.

    Args:
      labels: [n] int true classes.
      probabilities: [n, K] float64, rows sum to one.
      groups: class indices by group.
      bins: how many bins.

    Returns:
      A function of int weights [r, n] that returns, for 'all' and each group with test images, the
      accuracies [r, b] of its b bins, from the least confident; NaN where a resample draws none of
      a bin's images.
    """
    confidences, correct = _top_label(labels, probabilities)
    matrices = {}
    for name, members in _image_sets(labels, groups).items():
        if len(members):
            place = equal_mass(confidences[members], bins)
            shape = (place.max() + 1, len(labels))
            matrices[name] = [
                sparse.csr_array((counted[members], (place, members)), shape)
                for counted in (correct, np.ones(len(labels)))
            ]

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        by_image = np.ascontiguousarray(weights.T, np.float64)
        return {
            name: _ratio(right @ by_image, every @ by_image).T
            for name, (right, every) in matrices.items()
        }

    return statistic


def reliability(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    bins: int = 15,
    samples: Mapping[str, np.ndarray] | None = None,
    freedom: Mapping[str, np.ndarray] | None = None,
) -> dict[str, dict[str, Any]]:
    """Returns what a reliability diagram shows of the most probable class, over all and by group.

    A group holds the images whose true class is in it, and its accuracy is then recall. **Given the true class,
    perfectly calibrated probabilities do not lie on the diagonal**: calibration says that of all images
    called k with confidence 0.7 seven in ten are k, whereas those that are of a rare class are called
    something more frequent whenever there is doubt. By Bayes' rule a calibrated model is found too confident on
    the tail, and too little on the head. The panels of the groups say whose errors the confidence hides, not that it
    is wrong. The 'top_label_ece' of a group in `measures` is to be read the same way.

    Args:
      labels: [n] int true classes.
      probabilities: [n, K] float64, rows sum to one.
      groups: class indices by group.
      bins: how many bins; they have equal mass within each group.
      samples: resampled `bin_accuracies` [R, b] by name, of the same arguments; without there are no intervals.
      freedom: degrees of freedom of `samples` [b] by name, see `ltjax.evaluation.bootstrap.intervals`.

    Returns:
      JSON-able, for 'all' and each group with test images: {'bins': a list from the least confident
      of {'confidence': mean, 'accuracy': {'value', 'low', 'high'}, 'images': number}, 'histogram':
      images in each of HISTOGRAM_PARTS equal parts of confidence from 0 to 1}. 'low' and 'high' are
      the 95 % interval over the resamples that draw an image of the bin, None without.
    """
    confidences, correct = _top_label(labels, probabilities)
    found = {}
    for name, members in _image_sets(labels, groups).items():
        if not len(members):
            continue
        own = confidences[members]
        place = equal_mass(own, bins)
        images = np.bincount(place)
        rows = zip(
            (np.bincount(place, own) / images).tolist(),
            (np.bincount(place, correct[members]) / images).tolist(),
            images.tolist(),
            samples[name].T if samples else [np.empty(0)] * len(images),
            freedom[name] if freedom else [np.inf] * len(images),
            strict=True,
        )
        found[name] = {
            'bins': [
                {
                    'confidence': confidence,
                    'accuracy': {'value': accuracy} | _interval(resampled, degrees),
                    'images': number,
                }
                for confidence, accuracy, number, resampled, degrees in rows
            ],
            'histogram': np.histogram(np.minimum(own, 1), HISTOGRAM_PARTS, (0, 1))[0].tolist(),
        }
    return found


def _interval(resampled: np.ndarray, freedom: float) -> dict[str, float | None]:
    """Returns {'low', 'high'} of the defined ones of the values [R]."""
    defined = resampled[~np.isnan(resampled)]
    bounds = np.percentile(defined, percentiles(freedom)).tolist() if len(defined) else [None, None]
    return dict(zip(('low', 'high'), bounds, strict=True))


def _top_label(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns [n] float64 probabilities of the most probable classes, and [n] whether they are right."""
    predictions = probabilities.argmax(1)
    return probabilities[np.arange(len(labels)), predictions], predictions == labels


def _image_sets(labels: np.ndarray, groups: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Returns the indices of all images, and of those of each group."""
    sets = {ALL: np.arange(len(labels))}
    return sets | {
        name: np.flatnonzero(np.isin(labels, classes)) for name, classes in groups.items()
    }


def _sums(
    members: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, bins: int
) -> sparse.csr_array:
    """Returns [3 + bins, n]: what each of the `members` adds to their number, scores and bins."""
    true = probabilities[np.arange(len(labels)), labels]
    # sum_k (p_k - [y = k])^2, multiplied out.
    squares = np.einsum('nk,nk->n', probabilities, probabilities) + 1 - 2 * true
    eps = np.finfo(np.float64).eps
    confidences, correct = _top_label(labels, probabilities)
    added = [np.ones(len(labels)), squares, -np.log(np.clip(true, eps, 1 - eps))]
    added.append(confidences - correct)
    rows = np.repeat(np.arange(4), len(members)).reshape(4, -1)
    if len(members):
        rows[3] += equal_mass(confidences[members], bins)
    cells = (rows.ravel(), np.tile(members, 4))
    return sparse.csr_array(
        (np.concatenate([values[members] for values in added]), cells), (3 + bins, len(labels))
    )


def _ratio(numerator: np.ndarray, denominator: np.ndarray | int) -> np.ndarray:
    """Divides, and gives NaN where the denominator is zero."""
    return np.where(denominator == 0, np.nan, numerator / np.maximum(denominator, 1))
