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


def step_counts(max_count: int, num_classes: int, ratio: float) -> list[int]:
    """Class sizes of a step: the first half of the classes keeps all, the second 1/ratio of it.

    Args:
      max_count: size of a class of the first floor(K/2).
      num_classes: K.
      ratio: imbalance ratio, at least 1.

    Returns:
      K counts, largest first; the small ones are floor(max_count / ratio).

    Raises:
      UserError: as `exponential_counts`.

    Buda et al., Neural Networks 2018; Cao et al., "LDAM", NeurIPS 2019 (CIFAR-LT, type `step`).

    >>> step_counts(5000, 5, 100)
    [5000, 5000, 50, 50, 50]
    """
    many = exponential_counts(max_count, num_classes, 1)[: num_classes // 2]
    few = exponential_counts(max_count, 2, ratio)[1]
    return many + [few] * (num_classes - len(many))


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


def lmd_split(
    labels: ArrayLike, ids: Sequence[str] | ArrayLike, *, ratio: float | None, seed: int
) -> dict[str, str]:
    """Builds a long-tailed set and its split by LMD's published protocol.

    `decayed_counts` says how many images a class keeps, `split_counts_7_1_2` how they are split.

    Args:
      labels: [N] int, classes from 0, none empty.
      ids: [N] names of the images.
      ratio: imbalance ratio to reach; None keeps all images.
      seed: chooses the images; the same on every machine. (LMD's own choice is its CSV files.)

    Returns:
      'train', 'val' or 'test' by id, of the images that are kept.

    Raises:
      UserError: as `decayed_counts`.
    """
    classes, names = np.asarray(labels, np.int64), np.asarray(ids).astype(str)
    present = np.bincount(classes)
    kept = present.tolist() if ratio is None else decayed_counts(present, ratio)
    split: dict[str, str] = {}
    for k, count in enumerate(kept):
        generator = np.random.Generator(np.random.PCG64([seed, k]))
        chosen = generator.permutation(np.flatnonzero(classes == k))[:count]
        sides = np.repeat(['train', 'val', 'test'], split_counts_7_1_2(count))
        split |= zip(names[chosen].tolist(), sides.tolist(), strict=True)
    return split


def subsample(
    labels: ArrayLike, counts_per_class: Sequence[int] | ArrayLike, seed: int
) -> NDArray[np.int64]:
    """Chooses the images of each class that a long-tailed version keeps.

    Nested: with the same seed, the images kept for a smaller count are among those kept
    for a larger one, and the choice in one class does not depend on the other classes.

    Args:
      labels: [N] int, classes from 0.
      counts_per_class: [K] images to keep of each class.
      seed: chooses the images; the same on every machine.

    Returns:
      Row numbers, ascending.

    Raises:
      UserError: a class has fewer images than asked for, or a label has no count.

    >>> subsample([0, 1, 0, 0, 1], [3, 1], seed=0).tolist()
    [0, 1, 2, 3]
    """
    classes = np.asarray(labels)
    wanted = np.asarray(counts_per_class, np.int64)
    if classes.size and not 0 <= classes.min() <= classes.max() < len(wanted):
        raise UserError(f'labels must lie in 0..{len(wanted) - 1}: give one count for each class.')
    chosen = []
    for k, count in enumerate(wanted.tolist()):
        candidates = np.flatnonzero(classes == k)
        if not 0 <= count <= len(candidates):
            raise UserError(
                f'class {k} has {len(candidates)} images, not {count}: lower its count.'
            )
        generator = np.random.Generator(np.random.PCG64([seed, k]))
        chosen.append(generator.permutation(candidates)[:count])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
