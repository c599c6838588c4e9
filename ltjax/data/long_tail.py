"""Long-tailed versions of a data set: how many images each class keeps, and which ones."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltjax.errors import UserError


def exponential_counts(max_count: int, num_classes: int, ratio: float) -> list[int]:
    """Class sizes that fall exponentially, floor(max_count (1/ratio)^(k/(K-1))).

    Args:
      max_count: size of class 0, the largest.
      num_classes: K.
      ratio: imbalance ratio, largest over smallest class, at least 1.

    Returns:
      K counts, largest first.

    Raises:
      UserError: the sizes ask for less than one class or a ratio below 1.

    Cui et al., "Class-balanced loss", CVPR 2019; Cao et al., "LDAM", NeurIPS 2019 (CIFAR-LT).

    >>> exponential_counts(5000, 10, 100)
    [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    """
    if num_classes < 1 or max_count < 0:
        raise UserError(f'a data set needs classes and images, not {num_classes} and {max_count}.')
    if ratio < 1:
        raise UserError(f'imbalance ratio {ratio} is below 1: give largest over smallest class.')
    last = max(num_classes - 1, 1)
    return [int(max_count * (1 / ratio) ** (k / last)) for k in range(num_classes)]


def decayed_counts(counts: Sequence[int] | ArrayLike, ratio: float) -> list[int]:
    """Steepens the long tail that a data set already has to a given imbalance ratio.

    Classes sorted from the largest n_0 to the smallest n_{K-1} keep ceil(n_i mu^i) images, with mu
    = (n_0 / (n_{K-1} ratio))^(1/(K-1)); so the last keeps about n_0 / ratio.

    Args:
      counts: [K] images of each class.
      ratio: imbalance ratio to reach, at least that of the data.

    Returns:
      K counts in the order of the input.

    Raises:
      UserError: a class is empty, or the data are more imbalanced than the ratio.

    The construction of ISIC-2019-LT in LMD's released code.

    >>> decayed_counts([50, 400, 100], 16)
    [26, 400, 71]
    """
    sizes = np.asarray(counts, np.int64)
    if sizes.min() < 1:
        raise UserError(f'class {int(sizes.argmin())} has no images: leave it out of the counts.')
    present = sizes.max() / sizes.min()
    if ratio < present:
        raise UserError(
            f'imbalance ratio {ratio} is below the {present:.4g} of the data: raise the ratio.'
        )
    order = np.argsort(-sizes, kind='stable')
    mu = (sizes.max() / (sizes.min() * ratio)) ** (1 / max(len(sizes) - 1, 1))
    kept = [0] * len(sizes)
    for rank, k in enumerate(order):
        kept[k] = math.ceil(sizes[k] * mu**rank)
    return kept


def split_counts_7_1_2(count: int) -> tuple[int, int, int]:
    """Sizes of a 7:1:2 split of one class into training, validation and test.

    ceil(0.3 n) images are held out; a third of them, rounded up, is validation, the rest test.

    Args:
      count: n, images of the class.

    Returns:
      The three sizes, which sum to n.

    The split of ISIC-2019-LT in LMD's released code.

    >>> split_counts_7_1_2(100)
    (70, 10, 20)
    """
    held_out = -(-3 * count // 10)
    validation = -(-held_out // 3)
    return count - held_out, validation, held_out - validation


def subsample(
    labels: ArrayLike,
    counts_per_class: Sequence[int] | ArrayLike,
    seed: int,
    order: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """Chooses the images of each class that a long-tailed version keeps.

    Nested: with the same seed (or order), the images kept for a smaller count are among those kept
    for a larger one, and the choice in one class does not depend on the other classes.

    Args:
      labels: [N] int, classes from 0.
      counts_per_class: [K] images to keep of each class.
      seed: chooses the images.
      order: [N] a permutation of the row numbers that replaces the seed: of each class the rows
        that come first in it are kept, for example `range(N)` for those that the files list first.

    Returns:
      Row numbers, ascending.

    Raises:
      UserError: a class has fewer images than asked for, or a label has no count.

    >>> subsample([0, 1, 0, 0, 1], [2, 1], seed=0, order=range(5)).tolist()
    [0, 1, 2]
    """
    classes = np.asarray(labels)
    wanted = np.asarray(counts_per_class, np.int64)
    if classes.size and not 0 <= classes.min() <= classes.max() < len(wanted):
        raise UserError(f'labels must lie in 0..{len(wanted) - 1}: give one count for each class.')
    rows = np.arange(len(classes)) if order is None else np.asarray(order, np.int64)
    if not np.array_equal(np.sort(rows), np.arange(len(classes))):
        raise UserError(f'order must be a permutation of the {len(classes)} row numbers.')
    chosen = []
    for k, count in enumerate(wanted.tolist()):
        candidates = rows[classes[rows] == k]
        if not 0 <= count <= len(candidates):
            raise UserError(
                f'class {k} has {len(candidates)} images, not {count}: lower its count.'
            )
        if order is None:
            generator = np.random.Generator(np.random.PCG64([seed, k]))
            candidates = generator.permutation(candidates)
        chosen.append(candidates[:count])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
