"""Probabilities of classes, from logits or as they are given."""

from collections.abc import Iterator

import numpy as np

from ltjax.errors import UserError

# Images, and classes, whose probabilities are worked out at once.
_ROWS, _COLUMNS = 256, 32


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns float64 probabilities [n, K] of logits [n, K]; UserError if one is not finite."""
    logits = np.asarray(logits)
    _refuse_not_finite(logits)
    exponentials, _, totals = _exponentials(logits)
    return exponentials / totals


def _exponentials(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns float64 exponentials [n, K] of logits less their largest [n, 1], it, and sums [n, 1]."""
    logits = logits.astype(np.float64)
    peaks = logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(logits - peaks)
    return exponentials, peaks, exponentials.sum(axis=-1, keepdims=True)


def _refuse_not_finite(logits: np.ndarray) -> None:
    finite = np.isfinite(logits).all(axis=-1)
    if not finite.all():
        raise UserError(
            f'logits of {np.count_nonzero(~finite)} of {len(logits)} images are not finite: '
            'training diverged; lower the learning rate or clip the gradients.'
        )


class Probabilities:
    """The softmax of logits [n, K], as `softmax` has it, without an array of them all.

    Of ten thousand classes such an array takes gigabytes. The numbers of a class lie side by side.

    Attributes:
      shape: (n, K).
      predictions: [n] int64 the most probable classes.
    """

    shape: tuple[int, ...]
    predictions: np.ndarray

    def __init__(self, logits: np.ndarray) -> None:
        """Takes the logits, which are kept as they are; UserError if one is not finite."""
        self._logits = np.asarray(logits)
        _refuse_not_finite(self._logits)
        self.shape = self._logits.shape
        num_images = len(self._logits)
        self.predictions = np.empty(num_images, np.int64)
        self._peaks, self._totals = np.empty((2, num_images))
        for start in range(0, num_images, _ROWS):
            rows = slice(start, start + _ROWS)
            exponentials, peaks, totals = _exponentials(self._logits[rows])
            self.predictions[rows] = (exponentials / totals).argmax(-1)
            self._peaks[rows], self._totals[rows] = peaks[:, 0], totals[:, 0]

    def by_class(self) -> Iterator[np.ndarray]:
        """Yields [n] float64 probabilities of each class in turn."""
        for start in range(0, self.shape[1], _COLUMNS):
            logits = self._logits[:, start : start + _COLUMNS].T.astype(np.float64, order='C')
            yield from np.exp(logits - self._peaks) / self._totals

    def matrix(self) -> np.ndarray:
        """Returns all of them, float64 [n, K]."""
        return softmax(self._logits)


class GivenProbabilities(Probabilities):
    """Probabilities that somebody else made: no softmax changes them, so that equal ones stay equal."""

    def __init__(self, probabilities: np.ndarray) -> None:
        """Takes float [n, K] whose rows sum to one."""
        self._matrix = np.asarray(probabilities, np.float64)
        self.shape = self._matrix.shape
        self.predictions = self._matrix.argmax(-1)

    def by_class(self) -> Iterator[np.ndarray]:
        """Yields [n] float64 probabilities of each class in turn."""
        yield from np.ascontiguousarray(self._matrix.T)

    def matrix(self) -> np.ndarray:
        """Returns all of them, float64 [n, K]."""
        return self._matrix
