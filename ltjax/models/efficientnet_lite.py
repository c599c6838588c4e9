"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6.

Source: Tan and Le 2019, "EfficientNet", table 1, and the Lite variant that TensorFlow's authors
published in 2020. As theirs, it pads as TensorFlow does, its normalisation's epsilon is 1e-3, and
its stem and head keep the widths of B0.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ltjax.errors import UserError
from ltjax.models.classifier import ImageClassifier, Tap, run_stages, untouched
from ltjax.models.layers import (
    HE_FAN_IN,
    HE_FAN_OUT,
    BatchNorm,
    ConvNorm,
    conv,
    global_average,
    linear,
)

STEM_WIDTH = 32
HEAD_WIDTH = 1280

# Blocks, kernel, stride of the first block, expansion and width of each stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def _conv_norm(
    inputs: int, outputs: int, kernel: int, *, groups: int = 1, dtype: DTypeLike, **options: Any
) -> ConvNorm:
    """Returns a convolution padded as in TensorFlow, and its normalisation."""
    # Over fan-out, which in a depthwise convolution is one channel's, like its fan-in.
    init = HE_FAN_OUT if groups == 1 else HE_FAN_IN
    options |= {'groups': groups, 'padding': 'SAME', 'init': init, 'dtype': dtype}
    bn = BatchNorm(outputs, epsilon=1e-3, dtype=dtype)
    return ConvNorm(conv(inputs, outputs, kernel, **options), bn)


class Block(nnx.Module):
    """An inverted bottleneck (Sandler et al. 2018): widen, convolve depthwise, narrow again.

    Without expansion there is nothing to widen; the narrow output has no activation. The input is
    added where the shape stays.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        width = expansion * inputs
        self.adds_input = stride == 1 and inputs == outputs
        widens = expansion > 1
        self.expand = _conv_norm(inputs, width, 1, dtype=dtype, rngs=rngs) if widens else None
        self.depthwise = _conv_norm(
            width, width, kernel, stride=stride, groups=width, dtype=dtype, rngs=rngs
        )
        self.project = _conv_norm(width, outputs, 1, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        shortcut = x
        if self.expand is not None:
            x = nnx.relu6(self.expand(x))
        x = nnx.relu6(self.depthwise(x))
        x = self.project(x)
        return x + shortcut if self.adds_input else x


class EfficientNetLite0(ImageClassifier):
    """Seven stages of inverted bottlenecks; features are the head's 1280 averages over space."""

    def __init__(
        self,
        *,
        num_classes: int,
        channels: int = 3,
        stem: str = 'imagenet',
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Draws the weights: He normal over fan-out, the classifier as PyTorch's linear layer.

        `stem` is 'imagenet' (3x3 at stride 2), or 'cifar' (3x3 at stride 1) for small images, or UserError is raised;
        the rest is as in `models.create`.
        """
        if stem not in ('imagenet', 'cifar'):
            raise UserError(f"unknown stem {stem!r}: choose 'imagenet' or 'cifar'.")
        self.dtype = jnp.dtype(dtype)
        stride = 2 if stem == 'imagenet' else 1
        self.stem = _conv_norm(channels, STEM_WIDTH, 3, stride=stride, dtype=dtype, rngs=rngs)
        inputs = STEM_WIDTH
        stages = []
        for depth, kernel, first_stride, expansion, width in STAGES:
            blocks = []
            for index in range(depth):
                stride = first_stride if index == 0 else 1
                shape = dict(kernel=kernel, stride=stride, expansion=expansion)
                blocks.append(Block(inputs, width, **shape, dtype=dtype, rngs=rngs))
                inputs = width
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.head = _conv_norm(inputs, HEAD_WIDTH, 1, dtype=dtype, rngs=rngs)
        self.feature_dim = HEAD_WIDTH
        self.classifier = linear(HEAD_WIDTH, num_classes, rngs=rngs)

    @property
    def map_dim(self) -> int:
        """Channels of the last stage's output, which the head widens to the features."""
        return STAGES[-1][-1]

    def feature_maps(self, images: jax.Array, tap: Tap = untouched) -> dict[str, jax.Array]:
        """Returns 'stem' and 'stage1' to 'stage7'."""
        x = nnx.relu6(self.stem(images.astype(self.dtype)))
        return run_stages(x, self.stages, tap, remat=self.remat)

    def pool(self, last: jax.Array) -> jax.Array:
        """Returns features [B, 1280]: the head's convolution, averaged over space."""
        return global_average(nnx.relu6(self.head(last)))
