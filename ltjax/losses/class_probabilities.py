"""Samplers as class probabilities: `class_prob(counts, ...) -> [K]`, the chance of a class per draw.

All of it runs on the host, in numpy float64: ratios of counts lose digits in float32. The counts
[K] are the training images n_k of each class, and N is their sum. A class without images is never drawn. Within
a class the images are equally likely, see `samplers.instance_probabilities`.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltjax.losses._arrays import checked_counts
from ltjax.losses.class_weights import effective_number
from ltjax.losses.margin import cloud_sizes
from ltjax.losses.schedules import progressive_share

Counts = ArrayLike | Sequence[int]
Floats = NDArray[np.float64]


def _power(counts: Counts, exponent: float) -> Floats:
    """Class probabilities proportional to n_k^exponent over the classes that have images."""
    checked = checked_counts(counts)
    present = checked > 0
    # Relative to the class of the largest weight, so that no power overflows.
    reference = checked.max() if exponent >= 0 else checked[present].min()
    weights = np.zeros_like(checked)
    weights[present] = (checked[present] / reference) ** exponent
    return weights / weights.sum()


def _image_weighted(counts: Counts, weights: ArrayLike) -> Floats:
    """Class probabilities proportional to n_k w_k: every image of class k has the weight w_k."""
    masses = checked_counts(counts) * np.asarray(weights, np.float64)
    return masses / masses.sum()


def instance_balanced(counts: Counts) -> Floats:
    """Every image equally likely, p_k = n_k / N: [K] of counts [K].

    Source: Kang et al., "Decoupling representation and classifier for long-tailed recognition",
    ICLR 2020, equation 1 with q = 1.

    >>> instance_balanced([3, 1]).tolist()
    [0.75, 0.25]
    """
    return _power(counts, 1.0)


def class_balanced(counts: Counts) -> Floats:
    """Every class equally likely, p_k = 1 / K over the classes that have images: [K] of counts [K].

    Source: Kang et al., ICLR 2020, equation 1 with q = 0; the resampling of LMD's equation 7.

    >>> class_balanced([9, 1, 0]).tolist()
    [0.5, 0.5, 0.0]
    """
    return _power(counts, 0.0)


def square_root(counts: Counts) -> Floats:
    """Square-root sampling, p_k = sqrt(n_k) / sum_j sqrt(n_j): [K] of counts [K].

    Source: Kang et al., ICLR 2020, equation 1 with q = 1/2.

    >>> square_root([9, 1]).tolist()
    [0.75, 0.25]
    """
    return _power(counts, 0.5)


def class_aware(counts: Counts, *, gamma: float) -> Floats:
    """Class-aware sampling, p_k proportional to (1 / n_k)^gamma.

    Args:
      counts: [K] training images of each class.
      gamma: 0 is class-balanced, 1 is `inverse_frequency`, -1 is instance-balanced.

    Returns:
      [K] class probabilities.

    Source: Tiong et al. (ICCL), 2021, the class-aware sampler.

    >>> class_aware([9, 1], gamma=0.5).tolist()
    [0.25, 0.75]
    """
    return _power(counts, -gamma)


def inverse_frequency(counts: Counts) -> Floats:
    """Inverse class frequencies, p_k proportional to 1 / n_k: [K] of counts [K].

    Source: Zhou et al., "BBN: bilateral-branch network with cumulative learning for long-tailed
    visual recognition", CVPR 2020, the reversed sampler of its re-balancing branch.

    >>> inverse_frequency([3, 1]).tolist()
    [0.25, 0.75]
    """
    return _power(counts, -1.0)


def bmix_cbrt(counts: Counts) -> Floats:
    """The sampler 'cbrt' of balanced mixup's code, p_k proportional to n_k^(7/8): [K] of counts [K].

    Source: Galdran et al., "Balanced-MixUp for highly imbalanced medical image classification",
    MICCAI 2021.

    Reading: the code names it after the cube root, but its exponent is 7/8; we keep what it does.
    The cube root itself is `class_aware` with gamma = -1/3.

    >>> bmix_cbrt([256, 1]).round(4).tolist()
    [0.9922, 0.0078]
    """
    return _power(counts, 7 / 8)


def progressively_balanced(counts: Counts, *, epoch: int, epochs: int) -> Floats:
    """Progressively balanced, p_k = (1 - t) n_k / N + t / K with t from 0 to 1.

    Args:
      counts: [K] training images of each class.
      epoch: from 0; t = epoch / (epochs - 1).
      epochs: of the training.

    Returns:
      [K] class probabilities of the epoch.

    Source: Kang et al., ICLR 2020, equation 2.

    >>> progressively_balanced([3, 1], epoch=1, epochs=3).tolist()
    [0.625, 0.375]
    """
    share = progressive_share(epoch, epochs=epochs)
    return (1 - share) * instance_balanced(counts) + share * class_balanced(counts)


def effective_number_balanced(counts: Counts, *, beta: float = 0.9999) -> Floats:
    """Images weighted by the effective number, p_k proportional to n_k (1 - beta) / (1 - beta^n_k).

    Args:
      counts: [K] training images of each class.
      beta: 0 is instance-balanced, towards 1 class-balanced.

    Returns:
      [K] class probabilities.

    Source: Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019,
    as the sampling weights of LDAM's RS and DRS.

    >>> effective_number_balanced([1000, 10], beta=0.99).round(3).tolist()
    [0.905, 0.095]
    """
    numbers = effective_number(counts, beta=beta)
    return _image_weighted(counts, 1 / np.where(numbers > 0, numbers, 1))


def gcl_balanced(counts: Counts, *, beta: float = 0.9999, spread: float = 1e-5) -> Floats:
    """`effective_number_balanced` with a beta for each class, beta_k = beta + spread d_k.

    d_k is GCL's cloud size, from 0 for the largest class to 1 for the smallest.

    Args:
      counts: [K] training images of each class.
      beta: of the largest class.
      spread: what the smallest class has more.

    Returns:
      [K] class probabilities.

    Source: Li et al., "Long-tailed visual recognition via Gaussian clouded logit adjustment", CVPR
    2022, the sampler of its released second stage.

    Reading: the released code forms beta_k in float32, which moves 1 - beta_k by up to 3e-4 of
    itself; so do we.

    >>> gcl_balanced([1000, 10]).round(3).tolist()
    [0.512, 0.488]
    """
    checked = checked_counts(counts)
    betas = np.float32(beta) + (spread * cloud_sizes(counts)).astype(np.float32)
    numbers = [
        effective_number([max(count, 1)], beta=beta_k)[0]
        for count, beta_k in zip(checked, betas.tolist(), strict=True)
    ]
    return _image_weighted(checked, 1 / np.array(numbers))


def deferred_resampling(
    counts: Counts,
    *,
    epoch: int,
    start: int = 160,
    sampler: Callable[[Counts], Floats] = effective_number_balanced,
) -> Floats:
    """Deferred re-sampling (DRS): instance-balanced before epoch `start`, another sampler from it.

    Args:
      counts: [K] training images of each class.
      epoch: from 0.
      start: first epoch that is re-sampled.
      sampler: class probabilities from counts.

    Returns:
      [K] class probabilities of the epoch.

    Source: Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss",
    NeurIPS 2019, the counterpart of its deferred re-weighting.

    >>> [deferred_resampling([3, 1], epoch=e, sampler=class_balanced).tolist() for e in (159, 160)]
    [[0.75, 0.25], [0.5, 0.5]]
    """
    return sampler(counts) if epoch >= start else instance_balanced(counts)


def difficulty_weights(accuracy: ArrayLike, *, floor: float = 1e-3) -> Floats:
    """Weight of each image by its class's accuracy, (1 / acc_k) / sum_j 1 / acc_j.

    Args:
      accuracy: [K] of each class on validation data, from 0 to 1.
      floor: accuracy that a class of less counts with; our choice.

    Returns:
      [K], which sum to 1.

    Raises:
      ValueError: accuracies outside 0..1.

    Source: Ju et al., "Flexible sampling for long-tailed skin lesion classification", MICCAI 2022,
    as the authors later released it in MONICA.

    >>> difficulty_weights([0.9, 0.3]).round(4).tolist()
    [0.25, 0.75]
    """
    checked = np.asarray(accuracy, np.float64)
    if checked.ndim != 1 or not np.all((checked >= 0) & (checked <= 1)):
        raise ValueError(
            f'accuracy must be one number from 0 to 1 for each class, got {accuracy!r}'
        )
    weights = 1 / np.maximum(checked, floor)
    return weights / weights.sum()


def difficulty_aware(counts: Counts, *, accuracy: ArrayLike, floor: float = 1e-3) -> Floats:
    """Difficulty sampling, p_k proportional to n_k / acc_k: still imbalanced.

    Args:
      counts: [K] training images of each class.
      accuracy: [K] of each class on validation data, from 0 to 1.
      floor: see `difficulty_weights`.

    Returns:
      [K] class probabilities.

    Raises:
      ValueError: accuracies outside 0..1, or not one for each class.

    Source: Ju et al., MICCAI 2022, as the authors later released it in MONICA, where the weight is
    that of an image.

    >>> difficulty_aware([30, 10], accuracy=[0.9, 0.3]).tolist()
    [0.5, 0.5]
    """
    weights = difficulty_weights(accuracy, floor=floor)
    if weights.shape != np.shape(counts):
        raise ValueError(f'accuracy must have shape {np.shape(counts)}, got {weights.shape}')
    return _image_weighted(counts, weights)
