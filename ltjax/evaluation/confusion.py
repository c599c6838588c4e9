"""What the metrics are made of: for each class how many images are its own, were given it, or both.

These tallies are [..., K], one for each resample or seed, where confusion matrices would be
[..., K, K]: with thousands of classes those do not fit into memory. Macro averages are over the
classes with test images, as in `ltjax.evaluation.metrics`. Within a stack of tallies (resamples,
seeds) the same classes must be without images.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

# From here on a matrix [K, K] is not stored: of ten thousand classes it has 100 million numbers.
MAX_MATRIX_CLASSES = 200


class Tally(NamedTuple):
    """Counts of images, over any number of leading axes at once.

    Attributes:
      true: [..., K] images of each class.
      predicted: [..., K] images that were given each class.
      correct: [..., K] images of each class that were given it.
      squares: [...] sum over the images of (true class - predicted class)^2.
    """

    true: np.ndarray
    predicted: np.ndarray
    correct: np.ndarray
    squares: np.ndarray


class Pairs(NamedTuple):
    """The occupied cells of a confusion matrix, sorted by true, then by predicted class.

    Attributes:
      true: [m] int true classes.
      predicted: [m] int predicted classes.
      images: [m] int images of each pair, at least one.
    """

    true: np.ndarray
    predicted: np.ndarray
    images: np.ndarray


def tally(
    weights: np.ndarray, labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> Tally:
    """Returns the tallies [r, ...] of resamples.

    Args:
      weights: [r, n] int times each image is drawn.
      labels: [n] int true classes.
      predictions: [n] int predicted classes.
      num_classes: K.
    """
    by_image = np.ascontiguousarray(weights.T)

    def add_up(classes: np.ndarray, counted: np.ndarray) -> np.ndarray:
        """[r, K] images of each class, of those that are counted."""
        places = (classes, np.arange(len(classes)))
        members = sparse.csr_array((counted, places), (num_classes, len(classes)))
        return np.ascontiguousarray((members @ by_image).T)

    every = np.ones(len(labels), weights.dtype)
    return Tally(
        true=add_up(labels, every),
        predicted=add_up(predictions, every),
        correct=add_up(labels, every * (labels == predictions)),
        squares=weights @ (labels.astype(np.int64) - predictions) ** 2,
    )


def count_pairs(labels: np.ndarray, predictions: np.ndarray) -> Pairs:
    """Returns how often each pair of true class [n] and predicted class [n] occurs."""
    width = int(predictions.max()) + 1
    pairs, images = np.unique(labels.astype(np.int64) * width + predictions, return_counts=True)
    return Pairs(*np.divmod(pairs, width), images)


def matrix(pairs: Pairs, num_classes: int) -> np.ndarray:
    """Returns the confusion matrix [K, K], rows the true class."""
    dense = np.zeros((num_classes, num_classes), np.int64)
    dense[pairs.true, pairs.predicted] = pairs.images
    return dense


def to_json(pairs: Pairs, num_classes: int) -> list[list[int]] | dict[str, list[int]]:
    """Returns what results.json holds of the pairs.

    With at most MAX_MATRIX_CLASSES classes the matrix [K][K], rows the true class. With more, three
    lists of equal length, the occupied cells alone: {'true': classes, 'predicted': classes,
    'images': numbers}, sorted by true, then by predicted class; every other cell is zero.
    """
    if num_classes <= MAX_MATRIX_CLASSES:
        return matrix(pairs, num_classes).tolist()
    return {name: values.tolist() for name, values in pairs._asdict().items()}


def from_json(stored: Sequence[Sequence[int]] | Mapping[str, Sequence[int]]) -> Pairs:
    """Returns the pairs from either form of `to_json`."""
    if isinstance(stored, Mapping):
        return Pairs(*(np.asarray(stored[name], np.int64) for name in Pairs._fields))
    dense = np.asarray(stored, np.int64)
    true, predicted = np.nonzero(dense)
    return Pairs(true, predicted, dense[true, predicted])


def reorder(pairs: Pairs, order: Sequence[int]) -> Pairs:
    """Returns the pairs with classes counted by their places in `order`, sorted anew."""
    places = np.argsort(order)
    true, predicted = places[pairs.true], places[pairs.predicted]
    sort = np.lexsort((predicted, true))
    return Pairs(true[sort], predicted[sort], pairs.images[sort])


def _present(counts: Tally) -> np.ndarray:
    """[K] bool: classes with test images."""
    return np.any(counts.true.reshape(-1, counts.true.shape[-1]), axis=0)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, empty: float) -> np.ndarray:
    """Divides `numerator` by `denominator`, and gives `empty` where the denominator is zero."""
    safe = np.where(denominator == 0, 1, denominator)
    return np.where(denominator == 0, empty, numerator / safe)


def recall(counts: Tally) -> np.ndarray:
    """[..., K] share of each class that is found; NaN for a class without test images."""
    return _ratio(counts.correct, counts.true, np.nan)


def precision(counts: Tally) -> np.ndarray:
    """[..., K] share of each class's predictions that are right; 0 if it is never predicted."""
    return _ratio(counts.correct, counts.predicted, 0.0)


def f1(counts: Tally) -> np.ndarray:
    """[..., K] harmonic mean of precision and recall, 2 TP / (true + predicted)."""
    return _ratio(2 * counts.correct, counts.true + counts.predicted, 0.0)


def accuracy(counts: Tally) -> np.ndarray:
    """[...] share of all images that is right."""
    return counts.correct.sum(-1) / counts.true.sum(-1)


def balanced_accuracy(counts: Tally) -> np.ndarray:
    """[...] mean recall of the classes with test images."""
    return recall(counts)[..., _present(counts)].mean(-1)


def macro_precision(counts: Tally) -> np.ndarray:
    """[...] mean precision of the classes with test images."""
    return precision(counts)[..., _present(counts)].mean(-1)


def macro_f1(counts: Tally) -> np.ndarray:
    """[...] mean F1 of the classes with test images."""
    return f1(counts)[..., _present(counts)].mean(-1)


def quadratic_kappa(counts: Tally) -> np.ndarray:
    """[...] Cohen's kappa with weights (i - j)^2; NaN if only one class has test images."""
    if _present(counts).sum() < 2:
        return np.full(counts.squares.shape, np.nan)
    # sum_ij true_i predicted_j (i - j)^2, multiplied out. In float64: sums of integers, which are
    # exact up to 2^53 and, unlike int64, do not wrap around beyond.
    index = np.arange(counts.true.shape[-1], dtype=np.float64)
    (t0, t1, t2), (p0, p1, p2) = (
        [values @ index**power for power in range(3)] for values in (counts.true, counts.predicted)
    )
    chance = t2 * p0 - 2 * t1 * p1 + t0 * p2
    return 1.0 - counts.squares * t0 / chance


def group_recall(counts: Tally, classes: Sequence[int]) -> np.ndarray:
    """[...] mean recall of the listed classes with test images; NaN if none of them has any."""
    present = _present(counts)
    members = [k for k in classes if present[k]]
    if not members:
        return np.full(counts.squares.shape, np.nan)
    return recall(counts)[..., members].mean(-1)


METRICS = {
    'accuracy': accuracy,
    'balanced_accuracy': balanced_accuracy,
    'macro_f1': macro_f1,
    'macro_precision': macro_precision,
    'macro_recall': balanced_accuracy,
    'quadratic_kappa': quadratic_kappa,
}
