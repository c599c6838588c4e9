"""Weights of the classes in a loss, from training counts.

Made once on the host, in numpy float64: 1 - 0.9999^4 has lost three digits in float32. The counts
[K] are the training images n_k of each class. Weights are rescaled to mean 1 over the classes that
have images, so that K of them sum to K; a class without images gets 0. A loss is weighted by
reducing its values with the weights of their labels, `weights[labels]`: `reduce.weighted_mean`
divides by the sum of these, `reduce.weighted_batch_mean` by the batch.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltjax.losses._arrays import check_positive, checked_counts

Floats = NDArray[np.float64]


def effective_number(counts: ArrayLike | Sequence[int], *, beta: float = 0.9999) -> Floats:
    """Effective number of images of each class, E_k = (1 - beta^n_k) / (1 - beta).

    1 for every class with images at beta 0, nearly n_k as beta goes to 1.

    Args:
      counts: [K] training images of each class.
      beta: from 0 to below 1.

    Returns:
      [K]; 0 for a class without images.

    Raises:
      ValueError: beta is outside 0..1 or equal to 1.

    Source: Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019,
    proposition 1.

    >>> effective_number([1, 2], beta=0.5).tolist()
    [1.0, 1.5]
    """
    checked = checked_counts(counts)
    if not 0 <= beta < 1:
        raise ValueError(f'beta must lie from 0 to below 1, got {beta}')
    if beta == 0:
        return np.sign(checked)
    return np.expm1(checked * np.log(beta)) / np.expm1(np.log(beta))


def _inverse(values: Floats) -> Floats:
    """1 / values with mean 1 over the positive ones; 0 for the others."""
    present = values > 0
    weights = np.zeros_like(values)
    weights[present] = values[present].min() / values[present]
    return weights / weights[present].mean()


def effective_number_weights(counts: ArrayLike | Sequence[int], *, beta: float = 0.9999) -> Floats:
    """Class-balanced weights, w_k proportional to 1 / E_k with the effective number E_k.

    Args:
      counts: [K] training images of each class.
      beta: from 0 (all weights 1) to below 1 (nearly inverse frequencies), see `effective_number`.

    Returns:
      [K] weights of mean 1 over the classes that have images; 0 for the others.

    Raises:
      ValueError: beta is outside 0..1 or equal to 1.

    Source: Cui et al., CVPR 2019, section 4, with its normalisation to sum K; the weights of
    LDAM's deferred re-weighting (DRW), which takes beta 0 until the epoch of the switch.

    >>> effective_number_weights([2, 1], beta=0.5).round(4).tolist()
    [0.8, 1.2]
    """
    return _inverse(effective_number(counts, beta=beta))


def inverse_frequency_weights(counts: ArrayLike | Sequence[int], *, power: float = 1.0) -> Floats:
    """Cost-sensitive weights, w_k proportional to 1 / n_k^power: [K] of counts [K].

    Source: the cost-sensitive baseline of Kim et al., "M2m: imbalanced classification via
    major-to-minor translation", CVPR 2020. GCL divides them by their sum. With a power it is the
    generalised re-weighting of Zhang et al. (DisAlign), CVPR 2021, whose power is 1.2.

    Raises:
      ValueError: power is not positive.

    >>> inverse_frequency_weights([3, 1]).tolist()
    [0.5, 1.5]
    """
    check_positive(power=power)
    return _inverse(checked_counts(counts) ** power)


def negative_log_weights(counts: ArrayLike | Sequence[int]) -> Floats:
    """Weights that grow with the logarithm of rarity, w_k = 1 - log(n_k / n_max): [K] of counts [K].

    Not rescaled: 1 for the largest class.

    Source: the released code of Ju et al., "MONICA: benchmarking on long-tailed medical image
    classification", 2024.

    >>> negative_log_weights([100, 10]).round(4).tolist()
    [1.0, 3.3026]
    """
    checked = checked_counts(counts)
    present = checked > 0
    weights = np.zeros_like(checked)
    weights[present] = 1 - np.log(checked[present] / checked.max())
    return weights
