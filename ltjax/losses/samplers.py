"""Sampling probabilities of classes and images, and class priors, from training counts.

All of it runs once on the host, in numpy float64: ratios of counts lose digits in float32. n_k is
the number of training images of class k and N their sum. A class without images is never drawn.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltjax.losses._arrays import checked_counts

Floats = NDArray[np.float64]


def _power(counts: ArrayLike | Sequence[int], exponent: float) -> Floats:
    """Class probabilities proportional to n_k^exponent over the classes that have images."""
    checked = checked_counts(counts)
    # Relative to the largest class, so that no power overflows.
    present = checked > 0
    weights = np.zeros_like(checked)
    weights[present] = (checked[present] / checked.max()) ** exponent
    return weights / weights.sum()


def instance_balanced(counts: ArrayLike | Sequence[int]) -> Floats:
    """Every image equally likely, p_k = n_k / N.

    Args:
      counts: [K] training images of each class.

    Returns:
      [K] class probabilities.

    Kang et al., "Decoupling representation and classifier", ICLR 2020, equation 1 with q = 1.

    >>> instance_balanced([3, 1]).tolist()
    [0.75, 0.25]
    """
    return _power(counts, 1.0)


def class_balanced(counts: ArrayLike | Sequence[int]) -> Floats:
    """Every class equally likely, p_k = 1 / K over the classes that have images.

    Args:
      counts: [K] training images of each class.

    Returns:
      [K] class probabilities.

    Kang et al., ICLR 2020, equation 1 with q = 0; the resampling of LMD's equation 7.

    >>> class_balanced([9, 1, 0]).tolist()
    [0.5, 0.5, 0.0]
    """
    return _power(counts, 0.0)


def square_root(counts: ArrayLike | Sequence[int]) -> Floats:
    """Square-root sampling, p_k = sqrt(n_k) / sum_j sqrt(n_j).

    Args:
      counts: [K] training images of each class.

    Returns:
      [K] class probabilities.

    Kang et al., ICLR 2020, equation 1 with q = 1/2.

    >>> square_root([9, 1]).tolist()
    [0.75, 0.25]
    """
    return _power(counts, 0.5)


def instance_probabilities(class_prob: ArrayLike, labels: ArrayLike) -> Floats:
    """Probability of each image, p_i = p_{y_i} / n_{y_i}: uniform within a class.

    Args:
      class_prob: [K] class probabilities.
      labels: [N] int, classes from 0.

    Returns:
      [N] probabilities, which sum to 1.

    Raises:
      ValueError: a label is outside 0..K-1, or a class that may be drawn has no image.

    >>> instance_probabilities([0.5, 0.5], [0, 0, 1]).tolist()
    [0.25, 0.25, 0.5]
    """
    probabilities = np.asarray(class_prob, np.float64)
    classes = np.asarray(labels)
    num_classes = len(probabilities)
    if classes.size and not 0 <= classes.min() <= classes.max() < num_classes:
        raise ValueError(f'labels must lie in 0..{num_classes - 1}')
    counts = np.bincount(classes, minlength=num_classes)
    empty = np.flatnonzero((counts == 0) & (probabilities > 0))
    if empty.size:
        raise ValueError(f'classes {empty.tolist()} have a probability but no image')
    return (probabilities / np.maximum(counts, 1))[classes]


def class_prior(counts: ArrayLike | Sequence[int]) -> Floats:
    """Class frequencies pi_k = n_k / N of the training set.

    Args:
      counts: [K] training images of each class.

    Returns:
      [K] frequencies, which sum to 1.

    >>> class_prior([3, 1]).tolist()
    [0.75, 0.25]
    """
    return instance_balanced(counts)


def log_prior(counts: ArrayLike | Sequence[int], *, floor: float = 1e-12) -> Floats:
    """Logarithm of the class frequencies, log max(pi_k, floor).

    Args:
      counts: [K] training images of each class.
      floor: frequency given to a class without images, which keeps losses finite.

    Returns:
      [K] finite values.

    >>> log_prior([3, 1]).round(4).tolist()
    [-0.2877, -1.3863]
    """
    return np.log(np.maximum(class_prior(counts), floor))


def balanced_draws(
    key: jax.Array, labels: ArrayLike, counts: ArrayLike, per_class: int
) -> jax.Array:
    """Indices of `per_class` examples of every class, with replacement, class by class: p_k = 1/K.

    On the device, for jitted passes over features; every class is drawn exactly as often as it is
    expected to be.

    Args:
      key: random key.
      labels: [N] int, classes from 0.
      counts: [K] examples of each class in `labels`, all positive.
      per_class: draws of each class, static.

    Returns:
      [K * per_class] int32.

    LMD, section 3.4.2: E[N_k] = N / K.

    >>> labels = jnp.array([1, 0, 1])
    >>> labels[balanced_draws(jax.random.key(0), labels, jnp.array([1, 2]), 2)].tolist()
    [0, 0, 1, 1]
    """
    counts = jnp.asarray(counts)
    by_class = jnp.argsort(jnp.asarray(labels), stable=True)
    starts = jnp.cumsum(counts) - counts
    offset = jax.random.randint(key, (len(counts), per_class), 0, counts[:, None])
    return by_class[starts[:, None] + offset].reshape(-1)
