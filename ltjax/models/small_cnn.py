"""A six-layer network for small images, quick enough to train on a laptop's CPU."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ltjax.errors import UserError
from ltjax.models.classifier import ImageClassifier, Tap, untouched
from ltjax.models.layers import HE_FAN_IN, BatchNorm, conv, linear


class SmallCNN(ImageClassifier):
    """Six 3x3 convolutions in three pairs, each with batch normalisation and ReLU.

    A pair shares its width: `width`, twice and four times that. The second convolution of the first
    two pairs has stride 2: on a CPU a step takes three quarters of what 2x2 max-pooling after the
    pair would. 28 pixels become 14 and then 7; sides need not be even.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        channels: int = 3,
        width: int = 16,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Draws the weights: He normal over fan-in, the classifier as PyTorch's linear layer.

        `width` is that of the first pair; features have 4 * width. The rest is as in `models.create`.
        """
        if width < 1:
            raise UserError(f'model.width is {width}: use 1 or more.')
        widths = (channels, width, width, 2 * width, 2 * width, 4 * width, 4 * width)
        strides = (1, 2, 1, 2, 1, 1)
        self.dtype = jnp.dtype(dtype)
        self.feature_dim = 4 * width
        self.convs = nnx.List(
            conv(inputs, outputs, 3, stride=stride, init=HE_FAN_IN, dtype=dtype, rngs=rngs)
            for inputs, outputs, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.norms = nnx.List(BatchNorm(outputs, dtype=dtype) for outputs in widths[1:])
        self.classifier = linear(self.feature_dim, num_classes, rngs=rngs)

    def feature_maps(self, images: jax.Array, tap: Tap = untouched) -> dict[str, jax.Array]:
        """Returns 'stem' (after the first convolution) and 'stage1' to 'stage3' (after a pair)."""
        names = ('stem', 'stage1', None, 'stage2', None, 'stage3')
        maps = {}
        x = images.astype(self.dtype)
        unit = nnx.remat(_unit) if self.remat else _unit
        for name, convolve, norm in zip(names, self.convs, self.norms, strict=True):
            x = unit(convolve, norm, x)
            if name:
                x = maps[name] = tap(name, x)
        return maps


def _unit(convolve: nnx.Conv, norm: BatchNorm, x: jax.Array) -> jax.Array:
    return nnx.relu(norm(convolve(x)))
