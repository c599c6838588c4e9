"""De-confounded training and total direct effect (TDE): the bad direction removed at inference.

Momentum drags all features towards a direction that favours large classes. The heads below are
trained on normalised features; the mean direction is followed beside the training and what it alone
would predict is subtracted at inference. x, w_k and the mean direction e are split along their width
into equal heads, each normalised by itself.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import checked_floats
from ltjax.losses.heads import lengths, linear_logits, unit_vectors
from ltjax.losses.reduce import mean


def _split(vectors: jax.Array, num_heads: int) -> jax.Array:
    """[n, D] as [n, num_heads, D / num_heads]."""
    rows, width = vectors.shape
    if num_heads < 1 or width % num_heads:
        raise ValueError(f'num_heads must divide the width {width}, got {num_heads}')
    return vectors.reshape(rows, num_heads, width // num_heads)


def deconfounded_logits(
    features: ArrayLike,
    weight: ArrayLike,
    *,
    num_heads: int = 2,
    scale: float = 16.0,
    gamma: float = 1 / 32,
) -> jax.Array:
    """Logits of the de-confounded training, (scale / H) sum_h x_h / |x_h| . w_kh / (|w_kh| + gamma).

    Args:
      features: [batch, D].
      weight: [K, D].
      num_heads: H, divides D.
      scale: over all heads together.
      gamma: added to the length of a weight row; keeps it from mattering not at all.

    Returns:
      [batch, K], for the plain cross-entropy.

    Raises:
      ValueError: num_heads does not divide D, or an argument has another shape or dtype.

    Source: Tang et al., "Long-tailed classification by keeping the good and removing the bad
    momentum causal effect", NeurIPS 2020, the multi-head normalised classifier.

    >>> features, weight = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, -1.0]])
    >>> deconfounded_logits(features, weight, gamma=0.0).tolist()
    [[0.0]]
    """
    features = checked_floats(features, (None, None), name='features')
    weight = checked_floats(weight, (None, features.shape[1]), name='weight')
    units = unit_vectors(_split(features, num_heads))
    return _head_logits(units, _split(weight, num_heads), scale, gamma)


def _head_logits(units: jax.Array, weight: jax.Array, scale: float, gamma: float) -> jax.Array:
    length = lengths(weight)
    scaled = jnp.where(length > 0, weight / (jnp.where(length > 0, length, 1) + gamma), 0)
    heads = linear_logits(units.reshape(units.shape[0], -1), scaled.reshape(scaled.shape[0], -1))
    return scale / units.shape[1] * heads


def direction_momentum(learning_rate: ArrayLike, *, mu: float = 0.9) -> jax.Array:
    """Momentum of the mean direction that follows the learning rate, 1 - (1 - mu) min(50 lr, 1).

    Args:
      learning_rate: of the step, any shape.
      mu: momentum at learning rates of 0.02 and above.

    Returns:
      The momentum, of the same shape.

    Source: Tang et al., NeurIPS 2020; released code, for its data sets other than CIFAR.

    >>> [round(float(direction_momentum(rate)), 3) for rate in (0.1, 0.01, 0.0)]
    [0.9, 0.95, 1.0]
    """
    return 1 - (1 - mu) * jnp.minimum(50 * jnp.asarray(learning_rate, float), 1)


def update_direction(
    direction: ArrayLike,
    features: ArrayLike,
    *,
    mu: ArrayLike = 0.9,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The mean direction after a training batch, e <- mu e + mean of x.

    Args:
      direction: [D], zeros at the start.
      features: [batch, D] of the whole batch; a constant.
      mu: momentum, see `direction_momentum`.
      where: [batch] bool, True for the features that count; None counts all.

    Returns:
      [D]. Only its direction matters, so that it is a sum and no average.

    Source: Tang et al., NeurIPS 2020; no factor 1 - mu, as in SGD's own momentum.

    >>> update_direction(jnp.array([1.0]), jnp.array([[1.0], [2.0]]), mu=0.5).tolist()
    [2.0]
    """
    features = checked_floats(features, (None, None), name='features', where=where)
    direction = checked_floats(direction, features.shape[1:], name='direction')
    batch_mean = jax.vmap(lambda column: mean(column, where), in_axes=1)(features)
    return jnp.asarray(mu, direction.dtype) * direction + jax.lax.stop_gradient(batch_mean)


def total_direct_effect(
    features: ArrayLike,
    weight: ArrayLike,
    direction: ArrayLike,
    *,
    alpha: ArrayLike = 3.0,
    num_heads: int = 2,
    scale: float = 16.0,
    gamma: float = 1 / 32,
) -> jax.Array:
    """Logits at inference: x_h / |x_h| - alpha cos(x_h, e_h) e_h / |e_h| in place of x_h / |x_h|.

    Args:
      features: [batch, D].
      weight: [K, D].
      direction: [D] from `update_direction`; with zeros nothing is subtracted.
      alpha: how much of the bad direction is removed; 0 gives `deconfounded_logits`.
      num_heads: as in training.
      scale: as in training.
      gamma: as in training.

    Returns:
      [batch, K].

    Raises:
      ValueError: num_heads does not divide D, or an argument has another shape or dtype.

    Source: Tang et al., NeurIPS 2020, the de-confounded total direct effect.

    >>> features, weight = jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 1.0]])
    >>> logits = total_direct_effect(
    ...     features, weight, jnp.array([0.0, 2.0]), alpha=1.0, num_heads=1, gamma=0.0
    ... )
    >>> logits.tolist()
    [[0.0]]
    """
    features = checked_floats(features, (None, None), name='features')
    weight = checked_floats(weight, (None, features.shape[1]), name='weight')
    direction = checked_floats(direction, features.shape[1:], name='direction')
    units = unit_vectors(_split(features, num_heads))
    bad = unit_vectors(_split(direction[None, :], num_heads))
    cosine = (units * bad).sum(axis=2, keepdims=True)
    return _head_logits(units - alpha * cosine * bad, _split(weight, num_heads), scale, gamma)
