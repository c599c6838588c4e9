"""Two conventions that every loss of this folder keeps: the working dtype and masked examples."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def at_least_float32(values: ArrayLike) -> jax.Array:
    """Returns the values in their own dtype, or in float32 if that dtype is narrower.

    Losses of bfloat16 activations are formed in float32: sums over a batch and differences of
    logarithms need more than eight bits.
    """
    values = jnp.asarray(values)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def keep_examples(values: jax.Array, where: ArrayLike | None) -> jax.Array:
    """Returns the values with every masked example set to zero.

    Applied to the input of a loss, not to its result: so NaN in padding reaches no gradient.

    Args:
      values: [batch, ...].
      where: [batch] bool, True for the examples that count; None keeps all.
    """
    if where is None:
        return values
    mask = jnp.asarray(where, bool)
    mask = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    return jnp.where(mask, values, jnp.zeros((), values.dtype))
