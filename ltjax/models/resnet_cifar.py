"""The CIFAR ResNet-32 of the long-tail literature."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ltjax.models.classifier import ImageClassifier, Tap, run_stages, untouched
from ltjax.models.layers import HE_FAN_IN, BatchNorm, conv, linear

STAGE_WIDTHS = (16, 32, 64)
BLOCKS_PER_STAGE = 5


class CifarBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut without parameters (He et al. 2016, option A)."""

    def __init__(
        self, inputs: int, outputs: int, *, stride: int, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        self.stride = stride
        self.new_channels = outputs - inputs
        self.conv1 = conv(inputs, outputs, 3, stride=stride, init=HE_FAN_IN, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(outputs, dtype=dtype)
        self.conv2 = conv(outputs, outputs, 3, init=HE_FAN_IN, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(outputs, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        # Zero channels go half before and half after the old ones, which is a quarter of the new
        # width on each side where the width doubles.
        before = self.new_channels // 2
        padding = ((0, 0), (0, 0), (0, 0), (before, self.new_channels - before))
        shortcut = jnp.pad(x[:, :: self.stride, :: self.stride], padding)
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return nnx.relu(x + shortcut)


class CosineClassifier(nnx.Module):
    """Logits are the cosines of the angles between features and class weights, without a scale.

    Source: the normalised linear layer of Cao et al. 2019 (LDAM-DRW), whose loss brings the scale.

    Attributes:
      kernel: parameters [inputs, outputs], of unit columns at first.
    """

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        drawn = jax.random.uniform(rngs.params(), (inputs, outputs), minval=-1.0, maxval=1.0)
        self.kernel = nnx.Param(_unit_length(drawn, axis=0))

    def __call__(self, features: jax.Array) -> jax.Array:
        return _unit_length(features, axis=1) @ _unit_length(self.kernel[...], axis=0)


def _unit_length(x: jax.Array, *, axis: int) -> jax.Array:
    """Returns `x` divided by max(its L2 norm, 1e-12); its gradient is finite at zero, too."""
    squares = jnp.sum(jnp.square(x), axis=axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))


class CifarResNet32(ImageClassifier):
    """ResNet-32 for images of 32 pixels: three stages of five blocks, 64 features.

    Source: He et al. 2016, "Deep Residual Learning", section 4.2, with the shortcut's zero channels
    on both sides as in Cao et al. 2019 (LDAM-DRW).
    """

    def __init__(
        self,
        *,
        num_classes: int,
        channels: int = 3,
        cosine: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Draws the weights: He normal over fan-in, the linear classifier's too.

        `cosine` makes the classifier a `CosineClassifier`; the rest is as in `models.create`.
        """
        self.dtype = jnp.dtype(dtype)
        inputs = STAGE_WIDTHS[0]
        self.conv1 = conv(channels, inputs, 3, init=HE_FAN_IN, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(inputs, dtype=dtype)
        for stage, width in enumerate(STAGE_WIDTHS, start=1):
            blocks = []
            for _ in range(BLOCKS_PER_STAGE):
                stride = 1 if inputs == width else 2
                blocks.append(CifarBlock(inputs, width, stride=stride, dtype=dtype, rngs=rngs))
                inputs = width
            setattr(self, f'layer{stage}', nnx.List(blocks))
        self.feature_dim = inputs
        if cosine:
            self.classifier = CosineClassifier(inputs, num_classes, rngs=rngs)
        else:
            self.classifier = linear(inputs, num_classes, init=HE_FAN_IN, rngs=rngs)

    def feature_maps(self, images: jax.Array, tap: Tap = untouched) -> dict[str, jax.Array]:
        """Returns 'stem' and 'stage1' to 'stage3'."""
        x = nnx.relu(self.bn1(self.conv1(images.astype(self.dtype))))
        stages = (getattr(self, f'layer{stage}') for stage in range(1, len(STAGE_WIDTHS) + 1))
        return run_stages(x, stages, tap, remat=self.remat)
