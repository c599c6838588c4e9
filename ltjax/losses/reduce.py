"""Named reducers: from per-example values to the scalar that is differentiated.

Over the examples of a jitted step these are sums over the global batch, whatever the sharding.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import at_least_float32, keep_examples


def total(values: ArrayLike, where: ArrayLike | None = None) -> jax.Array:
    """Sum of the values that count.

    Args:
      values: [batch].
      where: [batch] bool, True for the values that count; None counts all.

    Returns:
      Scalar; 0 if nothing counts.

    >>> float(total(jnp.array([1.0, 2.0, 9.0]), jnp.array([True, True, False])))
    3.0
    """
    return keep_examples(at_least_float32(values), where).sum()


def mean(values: ArrayLike, where: ArrayLike | None = None) -> jax.Array:
    """Mean of the values that count.

    Args:
      values: [batch].
      where: [batch] bool, True for the values that count; None counts all.

    Returns:
      Scalar; 0 with zero gradient if nothing counts.

    >>> float(mean(jnp.array([1.0, 2.0, 9.0]), jnp.array([True, True, False])))
    1.5
    """
    values = at_least_float32(values)
    if where is None:
        return values.sum() / max(values.size, 1)
    count = jnp.asarray(where, bool).sum(dtype=values.dtype)
    return total(values, where) / jnp.maximum(count, 1)


def weighted_mean(values: ArrayLike, weights: ArrayLike) -> jax.Array:
    """Weighted mean, sum_i w_i v_i / sum_i w_i; `weighted_batch_mean` divides by the batch.

    Args:
      values: [batch].
      weights: [batch] non-negative; a value of weight 0 does not count, even if it is NaN.

    Returns:
      Scalar; 0 with zero gradient if every weight is 0.

    >>> float(weighted_mean(jnp.array([1.0, 2.0, 9.0]), jnp.array([3.0, 1.0, 0.0])))
    1.25
    """
    values = at_least_float32(values)
    weights = jnp.asarray(weights, values.dtype)
    weight_sum = weights.sum()
    counted = keep_examples(values, weights != 0)
    return (weights * counted).sum() / jnp.where(weight_sum == 0, 1, weight_sum)


def weighted_batch_mean(
    values: ArrayLike, weights: ArrayLike, where: ArrayLike | None = None
) -> jax.Array:
    """Mean of weighted values, sum_i w_i v_i / B: the weights of the batch need not sum to B.

    Differs from `weighted_mean` as soon as the batch is not balanced; which of the two a method
    uses is part of it.

    Args:
      values: [batch].
      weights: [batch].
      where: [batch] bool, True for the values that count, B of them; None counts all.

    Returns:
      Scalar; 0 with zero gradient if nothing counts.

    >>> float(weighted_batch_mean(jnp.array([1.0, 2.0]), jnp.array([3.0, 1.0])))
    2.5
    """
    values = keep_examples(at_least_float32(values), where)
    weights = keep_examples(jnp.asarray(weights, values.dtype), where)
    return mean(weights * values, where)
