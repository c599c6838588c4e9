"""Samplers: class and image probabilities, balanced draws, queries, and class priors.

A sampler is a function `class_prob(counts, ...) -> [K]`, the chance of each class per draw; those
are found here and written in `class_probabilities`. What runs on the host does so in numpy float64.
n_k is the number of training images of class k and N their sum.
"""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltjax.losses._arrays import at_least_smallest, checked_counts
from ltjax.losses.class_probabilities import *
from ltjax.losses.class_probabilities import Counts, Floats, instance_balanced


def per_sample_weights(class_prob: ArrayLike, counts: Counts) -> Floats:
    """Probability of one image of each class, p_k / n_k: uniform within a class.

    Args:
      class_prob: [K] class probabilities.
      counts: [K] training images of each class.

    Returns:
      [K]; 0 for a class without images.

    Raises:
      ValueError: a class that may be drawn has no image, or the shapes differ.

    >>> per_sample_weights([0.5, 0.5], [2, 1]).tolist()
    [0.25, 0.5]
    """
    probabilities = np.asarray(class_prob, np.float64)
    checked = checked_counts(counts)
    if probabilities.shape != checked.shape:
        raise ValueError(f'class_prob must have shape {checked.shape}, got {probabilities.shape}')
    empty = np.flatnonzero((checked == 0) & (probabilities > 0))
    if empty.size:
        raise ValueError(f'classes {empty.tolist()} have a probability but no image')
    return probabilities / np.maximum(checked, 1)


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
    classes = np.asarray(labels)
    num_classes = len(np.asarray(class_prob))
    if classes.size and not 0 <= classes.min() <= classes.max() < num_classes:
        raise ValueError(f'labels must lie in 0..{num_classes - 1}')
    return per_sample_weights(class_prob, np.bincount(classes, minlength=num_classes))[classes]


def epoch_length(counts: Counts) -> int:
    """Draws of a class-balanced epoch that shows every image once, K n_max.

    Args:
      counts: [K] training images of each class; classes without any do not count.

    Returns:
      The number of draws.

    Source: Kang et al., "Decoupling representation and classifier for long-tailed recognition",
    ICLR 2020, whose released class-aware sampler offers as many.

    Reading: that code nevertheless ends an epoch after as many steps as an ordinary one has.

    >>> epoch_length([9, 1, 0])
    18
    """
    checked = checked_counts(counts)
    return int((checked > 0).sum() * checked.max())


def class_prior(counts: Counts) -> Floats:
    """Class frequencies pi_k = n_k / N of the training set: [K] of counts [K].

    >>> class_prior([3, 1]).tolist()
    [0.75, 0.25]
    """
    return instance_balanced(counts)


def log_prior(counts: Counts) -> Floats:
    """Logarithm of the class frequencies, finite log pi_k: [K] of counts [K].

    A class without images counts as the rarest that has some. With a prior near 0 a class that was
    never seen would win wherever the prior is divided out, by its absence alone, and no training
    image would lower it.

    >>> log_prior([3, 1]).round(4).tolist()
    [-0.2877, -1.3863]
    """
    return np.log(at_least_smallest(class_prior(counts)))


def balanced_blocks(
    counts: Counts, *, batch_size: int, permutations: ArrayLike
) -> NDArray[np.int64]:
    """An epoch of batches with the same number of images of every class, each batch class by class.

    Image j of class c is permutations[c, j] mod n_c of it, so that each is seen about equally often.

    Args:
      counts: [K] training images of each class, all positive.
      batch_size: at least K; batches have K (batch_size // K) images.
      permutations: [K, n_max] int, for each class an order of 0..n_max-1, for example
        `rng.permuted(np.tile(np.arange(n_max), (K, 1)), axis=1)`.

    Returns:
      [batches, K, batch_size // K] positions among the images sorted by class (`np.argsort(labels,
      kind='stable')`); there are K n_max // batch_size batches, and what is left over is dropped.

    Raises:
      ValueError: a class has no image, the batch is smaller than K, or permutations have another
        shape.

    Source: Marrakchi et al., "Fighting class imbalance with contrastive learning", MICCAI 2021, as
    in its released script.

    >>> balanced_blocks([2, 1], batch_size=2, permutations=[[1, 0], [0, 1]]).tolist()
    [[[1], [2]], [[0], [2]]]
    """
    checked = checked_counts(counts).astype(np.int64)
    num_classes, largest = len(checked), int(checked.max())
    order = np.asarray(permutations, np.int64)
    if not checked.all():
        raise ValueError(f'counts must be positive, classes {np.flatnonzero(checked == 0)} are not')
    if batch_size < num_classes:
        raise ValueError(f'batch_size must be at least {num_classes}, got {batch_size}')
    if order.shape != (num_classes, largest):
        raise ValueError(
            f'permutations must have shape {(num_classes, largest)}, got {order.shape}'
        )
    batches, per_class = num_classes * largest // batch_size, batch_size // num_classes
    first = np.cumsum(checked) - checked
    positions = first[:, None] + order[:, : batches * per_class] % checked[:, None]
    return positions.reshape(num_classes, batches, per_class).transpose(1, 0, 2)


def bald(probabilities: ArrayLike) -> Floats:
    """Disagreement of stochastic predictions, entropy(mean_t p_t) - mean_t entropy(p_t).

    Args:
      probabilities: [passes, N, K] predictions with dropout left on.

    Returns:
      [N], from 0 where all passes agree.

    Raises:
      ValueError: probabilities have another number of axes.

    Source: Gal et al., "Deep Bayesian active learning with image data", ICML 2017 (BALD);
    the query of Ju et al., "Flexible sampling for long-tailed skin lesion classification",
    MICCAI 2022, whose released code has its negative.

    >>> bald([[[1.0, 0.0]], [[0.0, 1.0]]]).round(4).tolist()
    [0.6931]
    """
    checked = np.asarray(probabilities, np.float64)
    if checked.ndim != 3:
        raise ValueError(f'probabilities must have shape [passes, N, K], got {checked.shape}')

    def entropy(p: Floats) -> Floats:
        # p log p is 0 at p = 0.
        return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1)

    return entropy(checked.mean(axis=0)) - entropy(checked).mean(axis=0)


def uncertainty_query(uncertainty: ArrayLike, number: int) -> NDArray[np.int64]:
    """The examples to query: the most uncertain, in falling order.

    Args:
      uncertainty: [N], for example from `bald`.
      number: how many, at most N.

    Returns:
      [number] positions; among equals the first come first.

    Raises:
      ValueError: number is negative or larger than N.

    Source: Ju et al., MICCAI 2022.

    >>> uncertainty_query([0.1, 0.7, 0.3], 2).tolist()
    [1, 2]
    """
    scores = np.asarray(uncertainty, np.float64)
    if not 0 <= number <= len(scores):
        raise ValueError(f'number must lie in 0..{len(scores)}, got {number}')
    return np.argsort(-scores, kind='stable')[:number]


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

    Source: the LMD paper, section 3.4.2: E[N_k] = N / K.

    >>> labels = jnp.array([1, 0, 1])
    >>> labels[balanced_draws(jax.random.key(0), labels, jnp.array([1, 2]), 2)].tolist()
    [0, 0, 1, 1]
    """
    counts = jnp.asarray(counts)
    by_class = jnp.argsort(jnp.asarray(labels), stable=True)
    starts = jnp.cumsum(counts) - counts
    offset = jax.random.randint(key, (len(counts), per_class), 0, counts[:, None])
    return by_class[starts[:, None] + offset].reshape(-1)
