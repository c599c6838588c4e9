"""Random arrays drawn by numpy: jax.random compiles a function for each shape, half a second of every collection."""

import jax.numpy as jnp
import numpy as np


def normal(seed: int, *shape: int) -> jnp.ndarray:
    """Returns numbers of the standard normal distribution."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def uniform(seed: int, *shape: int) -> jnp.ndarray:
    """Returns numbers from 0 to 1."""
    return jnp.asarray(np.random.default_rng(seed).uniform(size=shape), jnp.float32)
