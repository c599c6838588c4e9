"""Mixed examples: mixup, manifold mixup, balanced mixup and remix.

lam is one weight for the whole batch or one for each example; drawn by `mixing_weight`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax.losses._arrays import (
    at_least_float32,
    check_positive,
    checked_counts,
    checked_labels,
    keep_examples,
)
from ltjax.losses.classification import softmax_cross_entropy


def mixing_weight(
    key: jax.Array, alpha: float, beta: float | None = None, *, shape: Sequence[int] = ()
) -> jax.Array:
    """Draws lam from Beta(alpha, beta).

    Args:
      key: random key.
      alpha: positive. Mixup and remix use 1, balanced mixup 0.1 to 0.3.
      beta: positive; None is alpha, as mixup has it. Balanced mixup has 1.
      shape: () for one weight for the batch, (batch,) for one for each example.

    Returns:
      Weights of that shape from 0 to 1.

    Raises:
      ValueError: alpha or beta is not positive.

    Source: Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018; Galdran et al.,
    "Balanced-MixUp for highly imbalanced medical image classification", MICCAI 2021.

    >>> 0 <= float(mixing_weight(jax.random.key(0), 0.2, 1.0)) <= 1
    True
    """
    beta = alpha if beta is None else beta
    check_positive(alpha=alpha, beta=beta)
    return jax.random.beta(key, alpha, beta, shape)


def interpolate(first: ArrayLike, second: ArrayLike, lam: ArrayLike) -> jax.Array:
    """Linear interpolation of two batches, lam x + (1 - lam) x'.

    Args:
      first: [batch, ...] x.
      second: [batch, ...] x'.
      lam: scalar or [batch].

    Returns:
      [batch, ...], in the dtype of `first` if that is floating, or else in float32.

    Source: Zhang et al., ICLR 2018; Tiong et al. (ICCL), 2021, equation 3, with an ordinary and a
    class-aware batch.

    >>> interpolate(jnp.array([[4.0], [4.0]]), jnp.zeros([2, 1]), jnp.array([0.25, 1.0])).tolist()
    [[1.0], [4.0]]
    """
    first = jnp.asarray(first)
    wide = at_least_float32(first)
    weight = jnp.asarray(lam, wide.dtype)
    weight = weight.reshape(weight.shape + (1,) * (wide.ndim - weight.ndim))
    mixed = weight * wide + (1 - weight) * jnp.asarray(second, wide.dtype)
    return mixed.astype(first.dtype) if jnp.issubdtype(first.dtype, jnp.floating) else mixed


def mixup(values: ArrayLike, permutation: ArrayLike, lam: ArrayLike) -> jax.Array:
    """Each example mixed with another of the batch, lam x_i + (1 - lam) x_{permutation_i}.

    Args:
      values: [batch, ...] images (mixup, remix), hidden activations (manifold mixup) or one-hot
        targets.
      permutation: [batch] int, the partner of each example.
      lam: scalar or [batch].

    Returns:
      [batch, ...], in the dtype of the values if that is floating, or else in float32.

    Source: Zhang et al., ICLR 2018; Verma et al., "Manifold mixup", ICML 2019, for a hidden layer
    that is drawn anew each batch.

    >>> mixup(jnp.array([[0.0], [4.0]]), jnp.array([1, 0]), 0.75).tolist()
    [[1.0], [3.0]]
    """
    values = jnp.asarray(values)
    return interpolate(values, values[jnp.asarray(permutation)], lam)


def balanced_mixup(values: ArrayLike, balanced: ArrayLike, lam: ArrayLike) -> jax.Array:
    """Two batches of two samplers, (1 - lam) x + lam x': the balanced one has the weight lam.

    Args:
      values: [batch, ...] images or one-hot targets of the instance-balanced sampler.
      balanced: [batch, ...] the same of the class-balanced sampler.
      lam: scalar or [batch], from Beta(alpha, 1), and so small: the ordinary images dominate.

    Returns:
      [batch, ...], in the dtype of the values if that is floating, or else in float32.

    Source: Galdran et al., MICCAI 2021.

    >>> balanced_mixup(jnp.array([[0.0]]), jnp.array([[4.0]]), 0.25).tolist()
    [[1.0]]
    """
    return interpolate(values, balanced, 1 - jnp.asarray(lam))


def interpolated_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    other_labels: ArrayLike,
    lam: ArrayLike,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Cross-entropy with two labels, -lam log p_y - (1 - lam) log p_{y'}.

    Args:
      logits: [batch, K] of the mixed examples.
      labels: [batch] int, y, classes from 0.
      other_labels: [batch] int, y', of the partners.
      lam: scalar or [batch], the weight of y: lam for mixup and manifold mixup, `remix_weight` for
        remix, alpha for BBN. For balanced mixup y are the labels of the balanced batch.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: Zhang et al., ICLR 2018; Zhou et al., "BBN: bilateral-branch network with cumulative
    learning", CVPR 2020; Tiong et al. (ICCL), 2021, equations 5 and 7.

    >>> values = interpolated_cross_entropy(
    ...     jnp.array([[2.0, 0.0]]), jnp.array([0]), other_labels=jnp.array([1]), lam=0.5
    ... )
    >>> round(float(values[0]), 4)
    1.1269
    """
    first = softmax_cross_entropy(logits, labels, where=where)
    shape = jnp.shape(logits)  # checked here too for the name in the message
    other_labels = checked_labels(other_labels, shape, name='other_labels', where=where)
    second = softmax_cross_entropy(logits, other_labels, where=where)
    weight = jnp.asarray(lam, first.dtype)
    return interpolate(first, second, keep_examples(weight, where) if weight.ndim else weight)


def remix_weight(
    labels: ArrayLike,
    other_labels: ArrayLike,
    *,
    lam: float | jax.Array,
    counts: Sequence[int] | np.ndarray,
    kappa: float = 3.0,
    tau: float = 0.5,
) -> jax.Array:
    """Weight of the own label in remix: the rarer class gets all of it unless it is nearly unseen.

    0 if n_y >= kappa n_{y'} and lam < tau; 1 if kappa n_y <= n_{y'} and 1 - lam < tau; else lam.

    Args:
      labels: [batch] int, y, classes from 0.
      other_labels: [batch] int, y', of the partners.
      lam: scalar or [batch], the weight of the own image.
      counts: [K] training images of each class, on the host.
      kappa: from which ratio of the counts on a class is the rarer.
      tau: 0 gives mixup.

    Returns:
      [batch], for `interpolated_cross_entropy`; the images are those of `mixup`.

    Source: Chou et al., "Remix: rebalanced mixup", ECCV 2020 workshops.

    >>> labels, others = jnp.array([0, 1]), jnp.array([1, 0])
    >>> remix_weight(labels, others, lam=0.25, counts=[90, 10]).tolist()
    [0.0, 0.25]
    """
    checked = checked_counts(counts)
    shape = jnp.shape(labels)[0], len(checked)
    labels = checked_labels(labels, shape)
    others = checked_labels(other_labels, shape, name='other_labels')
    # Compared on the host: ratios of counts lose digits in float32.
    larger = jnp.asarray(checked[:, None] >= kappa * checked[None, :])[labels, others]
    smaller = jnp.asarray(kappa * checked[:, None] <= checked[None, :])[labels, others]
    weight = at_least_float32(lam)
    # lam as it came: a Python number is compared in double precision.
    kept = jnp.where(smaller & (1 - lam < tau), jnp.ones((), weight.dtype), weight)
    return jnp.where(larger & (lam < tau), 0, kept)
