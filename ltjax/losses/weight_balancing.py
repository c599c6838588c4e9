"""Weight balancing: keeps the weights of head classes from outgrowing those of tail classes.

Its other half, weight decay, is the optimiser's (`optax.add_decayed_weights`).
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import at_least_float32


def max_norm_cap(
    weights: ArrayLike, *, threshold: float = 0.1, order: float = 2.0, axis: int = 0
) -> jax.Array:
    """Largest norm that a class's weights may have, min_k |w_k| + t (max_k |w_k| - min_k |w_k|).

    Taken once, from the weights that enter the second stage, and kept during it.

    Args:
      weights: [D, K] classifier kernel, or [K, D] with `axis=1`.
      threshold: t from 0 (the shortest class) to 1 (the longest).
      order: p of the norm.
      axis: the axis along which the weights of one class lie.

    Returns:
      Scalar.

    Raises:
      ValueError: the threshold is not between 0 and 1.

    Source: Alshammari et al., "Long-tailed recognition via weight balancing", CVPR 2022, max-norm
    constraint; the threshold as in its released code.

    >>> float(max_norm_cap(jnp.array([[3.0, 0.0], [4.0, 1.0]]), threshold=0.5))
    3.0
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f'threshold must lie between 0 and 1, got {threshold}')
    norms = jnp.linalg.norm(at_least_float32(weights), ord=order, axis=axis)
    return norms.min() + threshold * (norms.max() - norms.min())


def project_max_norm(
    weights: ArrayLike, cap: ArrayLike, *, order: float = 2.0, axis: int = 0
) -> jax.Array:
    """Rescales the weights of every class that is longer than the cap to it, w_k min(1, cap/|w_k|).

    Applied to the classifier after an update; its bias is left alone.

    Args:
      weights: [D, K] classifier kernel, or [K, D] with `axis=1`.
      cap: scalar, see `max_norm_cap`.
      order: p of the norm.
      axis: the axis along which the weights of one class lie.

    Returns:
      The weights in their own dtype; those of classes within the cap are unchanged.

    Source: Alshammari et al., CVPR 2022, projected gradient descent for the max-norm constraint.

    Reading: the paper projects after every update, its released code after every epoch. This is the
    projection alone; the caller chooses.

    >>> project_max_norm(jnp.array([[3.0, 0.0], [4.0, 1.0]]), 2.5).tolist()
    [[1.5, 0.0], [2.0, 1.0]]
    """
    weights = jnp.asarray(weights)
    wide = at_least_float32(weights)
    norms = jnp.linalg.norm(wide, ord=order, axis=axis, keepdims=True)
    cap = jnp.asarray(cap, wide.dtype)
    too_long = norms > cap
    factor = jnp.where(too_long, cap / jnp.where(too_long, norms, 1), 1)
    return (wide * factor).astype(weights.dtype)
