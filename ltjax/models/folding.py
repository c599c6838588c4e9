"""BatchNorm as a factor and an offset, which is all that is left of it once a network is trained."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltjax.models.layers import BatchNorm


class Affine(nnx.Module):
    """What a BatchNorm computes by its running statistics: a factor and an offset for each channel.

    Attributes:
      factor, offset: constants [C].
      dtype: of the output.
    """

    def __init__(self, norm: BatchNorm) -> None:
        """Folds the statistics of `norm`, in float64, so that it costs one rounding."""
        scale, bias, mean, var = (
            np.asarray(variable[...], np.float64)
            for variable in (norm.scale, norm.bias, norm.mean, norm.var)
        )
        factor = scale / np.sqrt(var + norm.epsilon)
        self.factor = nnx.Param(jnp.asarray(factor, jnp.float32))
        self.offset = nnx.Param(jnp.asarray(bias - mean * factor, jnp.float32))
        self.dtype = norm.dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `x` [..., C] normalised, in `dtype`."""
        over = (None,) * (x.ndim - 1)
        return (x * self.factor[...][over] + self.offset[...][over]).astype(self.dtype)


def fold(model: nnx.Module) -> None:
    """Replaces every BatchNorm of `model` by an `Affine`, in place; in inference mode it predicts the same."""
    for _, module in list(nnx.iter_modules(model)):
        for name, child in list(vars(module).items()):
            if isinstance(child, BatchNorm):
                setattr(module, name, Affine(child))
