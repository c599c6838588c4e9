"""Areas under the ROC curve of resamples, one class against the rest.

An area is the weighted share of (positive, negative) pairs in which the positive has the higher
score; equal scores count one half (Hanley and McNeil, 1982). Twice the number of such pairs is an
integer. There are two ways to it, of which the cheaper is taken, class by class; they agree to the
last bit.
"""

from collections.abc import Iterator

import numpy as np

# With at most so many positives a class is faster by products: measured, see `class_aucs`.
_MAX_PRODUCT_POSITIVES = 200
# Numbers in the largest array of a product: 32 MiB as float32.
_BLOCK_SIZE = 2**23


def class_aucs(weights: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns [r, K] float64 areas, NaN where a class has no positives or no negatives.

    For a class with p positives the sums along the sorted scores cost r n steps, and the product of
    weights with indicators costs r n p far cheaper ones.

    Args:
      weights: [r, n] int times each image is drawn.
      labels: [n] int true classes.
      scores: [K, n] float score of each class for each image.
    """
    num_classes, num_images = scores.shape
    sizes = np.bincount(labels, minlength=num_classes)
    by_product = (sizes > 0) & (sizes <= _MAX_PRODUCT_POSITIVES) & (sizes < num_images)
    areas = np.full((len(weights), num_classes), np.nan)
    for k in np.flatnonzero((sizes > 0) & ~by_product):
        areas[:, k] = auc(weights, labels == k, scores[k])
    if by_product.any():
        twice_wins, drawn = _twice_wins(weights, labels, scores, by_product)
        positives = drawn[:, by_product]
        negatives = weights.sum(1)[:, None] - positives
        areas[:, by_product] = twice_wins[:, by_product] / (2.0 * positives * negatives)
    return areas


def auc(weights: np.ndarray, positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns [r] float64 areas of one class, by sums along its sorted scores.

    Args:
      weights: [r, n] int times each image is drawn.
      positive: [n] bool.
      scores: [n] float.
    """
    positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
    if not len(positives) or not len(negatives):
        return np.full(len(weights), np.nan)
    positives = positives[np.argsort(scores[positives], kind='stable')]
    negatives = negatives[np.argsort(scores[negatives], kind='stable')]
    below = np.zeros((len(weights), len(negatives) + 1), np.int64)
    np.cumsum(weights[:, negatives], axis=1, out=below[:, 1:])
    lower = np.searchsorted(scores[negatives], scores[positives], side='left')
    upper = np.searchsorted(scores[negatives], scores[positives], side='right')
    twice_wins = np.einsum(
        'rp,rp->r', weights[:, positives], below[:, lower] + below[:, upper], dtype=np.float64
    )
    return twice_wins / (2.0 * weights[:, positives].sum(1) * below[:, -1])


def _twice_wins(
    weights: np.ndarray, labels: np.ndarray, scores: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns twice the pairs won [r, K] and the positives drawn [r, K] of the `chosen` [K] classes.

    A row of indicators says for one positive which negatives lie below it (2) or level with it (1):
    its product with the weights is twice the number of negatives that it wins against.
    """
    # Sums of integers are exact in float32 up to 2^24, and a product of these is faster.
    exact = np.float32 if 2 * int(weights.sum(1).max()) <= 2**24 else np.float64
    factors = weights.astype(exact)
    wins = np.zeros((len(weights), len(scores)))
    drawn = np.zeros((len(weights), len(scores)), np.int64)
    images = np.argsort(labels, kind='stable')
    for block in _blocks(images[chosen[labels[images]]], len(labels)):
        indicators = np.empty((len(block), len(labels)), exact)
        for row, image in zip(indicators, block, strict=True):
            own = scores[labels[image]]
            below, level = (own < own[image]).view(np.int8), (own <= own[image]).view(np.int8)
            row[:] = below + level
        classes, starts = np.unique(labels[block], return_index=True)
        for k, start, end in zip(classes, starts, [*starts[1:], len(block)], strict=True):
            indicators[start:end, labels == k] = 0
        beaten = (factors @ indicators.T).astype(np.float64)
        positives = weights[:, block]
        wins[:, classes] += np.add.reduceat(positives * beaten, starts, axis=1)
        drawn[:, classes] += np.add.reduceat(positives, starts, axis=1)
    return wins, drawn


def _blocks(images: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Yields the images in turn, so many that their rows of `width` numbers fit into a block."""
    step = max(1, _BLOCK_SIZE // width)
    for start in range(0, len(images), step):
        yield images[start : start + step]
