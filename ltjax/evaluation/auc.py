"""Areas under the ROC curve of resamples, one class against the rest.

An area is the weighted share of (positive, negative) pairs in which the positive has the higher
score; equal scores count one half (Hanley and McNeil, 1982). Only the order of the scores matters,
which is the same in every resample: it is found once. Twice the number of pairs is an integer, so
an area is the quotient of two exact numbers, in whatever order they were added up.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse


class Ranks(NamedTuple):
    """Where the images of other classes lie among those of one class.

    With u distinct scores of its own images a class has 2u + 1 places: place 2i + 1 is level with
    score i, the others lie between. Place 0, below all scores, stays empty: an image there loses
    against every own one in every resample, and in a good classifier nearly all images lie there.

    Attributes:
      own: [p] int images of the class, from the lowest score to the highest.
      edges: [u + 1] int how many of them lie below each score, and p.
      places: sparse uint8 [2u + 1, n], one where an image of another class is at a place.
    """

    own: np.ndarray
    edges: np.ndarray
    places: sparse.csr_array


def rank(positive: np.ndarray, scores: np.ndarray) -> Ranks | None:
    """Ranks the images for one class; None where a side has no images and there is no area.

    Args:
      positive: [n] bool.
      scores: [n] float.
    """
    own = np.flatnonzero(positive)
    if not 0 < len(own) < len(positive):
        return None
    own = own[np.argsort(scores[own], kind='stable')]
    levels, begins = np.unique(scores[own], return_index=True)
    others = np.flatnonzero((scores >= levels[0]) & ~positive)
    place = np.searchsorted(levels, scores[others])
    place += np.searchsorted(levels, scores[others], side='right')
    places = sparse.csr_array(
        (np.ones(len(others), np.uint8), (place, others)),
        shape=(2 * len(levels) + 1, len(positive)),
    )
    return Ranks(own, np.append(begins, len(own)), places)


def class_aucs(weights: np.ndarray, ranks: Sequence[Ranks | None]) -> np.ndarray:
    """Returns [r, K] float64 areas, NaN where a class has no positives or no negatives.

    Args:
      weights: [r, n] int times each image is drawn.
      ranks: [K] of each class, from `rank`.
    """
    drawn = weights.sum(1)
    # The narrowest integers that hold the sums are the fastest to add; a row is an image.
    by_image = np.ascontiguousarray(weights.T, np.min_scalar_type(int(drawn.max())))
    areas = np.full((len(weights), len(ranks)), np.nan)
    for k, of_class in enumerate(ranks):
        if of_class is not None:
            areas[:, k] = _areas(by_image, drawn, of_class)
    return areas


def _areas(by_image: np.ndarray, drawn: np.ndarray, ranks: Ranks) -> np.ndarray:
    """Returns [r] areas of one class, of weights [n, r] and their sums [r]."""
    own = np.zeros((len(ranks.own) + 1, len(drawn)), np.int64)
    np.cumsum(by_image[ranks.own], axis=0, dtype=np.int64, out=own[1:])
    below = own[ranks.edges].repeat(2, axis=0)
    # Against whom an image wins, twice: those below its place, and those below it or level with it.
    lost = ((ranks.places @ by_image) * (below[:-1] + below[1:])).sum(0)
    pairs = 2.0 * own[-1] * (drawn - own[-1])
    return (pairs - lost) / pairs
