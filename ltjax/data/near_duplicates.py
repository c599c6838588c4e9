"""Near-duplicates: images that were saved, resized or lit differently, found by their difference hashes.

An image becomes a grey thumbnail of 17x16 pixels, and that a hash of 256 bits: is the right one of two neighbours
brighter by more than `MARGIN`? Two images are near-duplicates if their hashes differ in at most `MAX_DISTANCE` bits and
their thumbnails correlate by at least `MIN_CORRELATION`. The margin keeps the noise of flat backgrounds out of the
hash; the correlation tells apart different objects on the same background, which the hash alone does not. How the three
numbers were chosen, and what they find, is in docs/data.md. Mirrored, turned and cropped copies are not found.

Every hash is compared with every other, as a product of matrices: the time grows with the square of the number of
images, and does not depend on what they show.
"""

from collections.abc import Iterator

import cv2
import numpy as np

MAX_DISTANCE = 24
MIN_CORRELATION = 0.99
MARGIN = 2  # grey levels
THUMBNAIL = (16, 17)  # height, width
_BITS = 256
_ROWS, _COLUMNS = 512, 8192  # of one block of the comparison
_PAIRS = 1 << 16  # confirmed at once


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Returns what images are compared by, uint8 [16, 17], of an image uint8 [H, W, 1 or 3]."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image[:, :, 0]
    shrinks = grey.shape[0] > THUMBNAIL[0] and grey.shape[1] > THUMBNAIL[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, THUMBNAIL[::-1], interpolation=method), np.uint8)


def hashes(thumbnails: np.ndarray) -> np.ndarray:
    """Returns the difference hashes, bool [N, 256], of thumbnails uint8 [N, 16, 17]."""
    steps = np.diff(thumbnails.astype(np.int16), axis=2)
    return (steps > MARGIN).reshape(len(thumbnails), _BITS)


def pairs(thumbnails: np.ndarray, max_distance: int = MAX_DISTANCE) -> Iterator[np.ndarray]:
    """Yields all pairs of near-duplicates among thumbnails uint8 [N, 16, 17]: int64 [P, 2], some at a time, each once.

    `max_distance` is the number of bits in which their hashes may differ.
    """
    bits = hashes(thumbnails)
    # Hashes whose numbers of ones differ by more than the distance need no comparison.
    ones = bits.sum(axis=1)
    order = np.argsort(ones, kind='stable')
    ones = ones[order]
    signs = np.where(bits[order], np.float32(1), np.float32(-1))
    centred = _centred(thumbnails[order])
    for start in range(0, len(order), _ROWS):
        rows = signs[start : start + _ROWS]
        most = ones[start + len(rows) - 1] + max_distance
        end = int(np.searchsorted(ones, most, side='right'))
        for left in range(start, end, _COLUMNS):
            agreement = rows @ signs[left : min(left + _COLUMNS, end)].T
            i, j = np.nonzero(agreement >= _BITS - 2 * max_distance)
            i, j = i + start, j + left
            i, j = i[i < j], j[i < j]
            for at in range(0, len(i), _PAIRS):
                a, b = i[at : at + _PAIRS], j[at : at + _PAIRS]
                alike = np.einsum('pd,pd->p', centred[a], centred[b]) >= MIN_CORRELATION
                yield np.stack([order[a[alike]], order[b[alike]]], axis=1)


def _centred(thumbnails: np.ndarray) -> np.ndarray:
    """Returns float32 [N, 272] whose inner products are correlations; zeros for a thumbnail of one grey."""
    values = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(norms > 0, norms, 1)


class Clusters:
    """A partition of 0 to n-1 that starts with singletons and is coarsened by `join`."""

    def __init__(self, size: int) -> None:
        from scipy.cluster.hierarchy import DisjointSet

        self._sets = DisjointSet(range(size))

    def join(self, i: int, j: int) -> None:
        """Puts the clusters of i and j together."""
        self._sets.merge(i, j)

    def join_equal(self, keys: np.ndarray) -> None:
        """Puts all members together that have the same key; the empty text is no key."""
        first: dict[str, int] = {}
        for i, key in enumerate(keys.tolist()):
            if key != '':
                self.join(first.setdefault(key, i), i)

    def labels(self) -> np.ndarray:
        """Returns the smallest member of everyone's cluster, int64 [n]."""
        smallest: dict[int, int] = {}
        return np.array([smallest.setdefault(self._sets[i], i) for i in self._sets], np.int64)

    def several(self) -> list[list[int]]:
        """Returns the clusters of two members or more, by their smallest members."""
        return [sorted(members) for members in self._sets.subsets() if len(members) > 1]
