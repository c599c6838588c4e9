"""ResNet-18, -34, -50 and ResNeXt-50 as torchvision defines them, attribute for attribute."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ltjax.errors import UserError
from ltjax.models.classifier import ImageClassifier, Tap, run_stages, untouched
from ltjax.models.convolution import max_pool
from ltjax.models.layers import BatchNorm, ConvNorm, conv, linear

STAGE_WIDTHS = (64, 128, 256, 512)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions; the first one takes the stride (He et al. 2016, figure 5 left)."""

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        *,
        stride: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv1 = conv(inputs, width, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(width, dtype=dtype)
        self.conv2 = conv(width, outputs, 3, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(outputs, dtype=dtype)
        self.downsample = _shortcut(inputs, outputs, stride=stride, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return nnx.relu(x + shortcut)


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions; the 3x3 takes the stride, unlike He et al. 2016, figure 5."""

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        *,
        stride: int,
        groups: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv1 = conv(inputs, width, 1, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(width, dtype=dtype)
        self.conv2 = conv(width, width, 3, stride=stride, groups=groups, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(width, dtype=dtype)
        self.conv3 = conv(width, outputs, 1, dtype=dtype, rngs=rngs)
        self.bn3 = BatchNorm(outputs, dtype=dtype)
        self.downsample = _shortcut(inputs, outputs, stride=stride, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return nnx.relu(x + shortcut)


def _shortcut(
    inputs: int, outputs: int, *, stride: int, dtype: DTypeLike, rngs: nnx.Rngs
) -> ConvNorm | None:
    """Returns the 1x1 projection where the shape changes, None where the input can be added as is."""
    if stride == 1 and inputs == outputs:
        return None
    projection = conv(inputs, outputs, 1, stride=stride, dtype=dtype, rngs=rngs)
    return ConvNorm(projection, BatchNorm(outputs, dtype=dtype))


class ResNet(ImageClassifier):
    """A residual network of four stages (He et al. 2016; Xie et al. 2017 for grouped ones)."""

    def __init__(
        self,
        depths: Sequence[int],
        *,
        bottleneck: bool,
        groups: int = 1,
        group_width: int = 64,
        num_classes: int,
        channels: int = 3,
        stem: str = 'imagenet',
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Draws the weights: He normal over fan-out, the classifier as PyTorch's linear layer.

        Args:
          depths: blocks in each of the four stages.
          bottleneck: bottleneck blocks (expansion 4) in place of basic ones.
          groups: of a bottleneck's 3x3 convolution.
          group_width: channels per group in the first stage, for bottlenecks.
          num_classes: K.
          channels: of the images.
          stem: 'imagenet' (7x7 at stride 2, then 3x3 max-pooling at stride 2), or 'cifar' (3x3 at
            stride 1, no pooling) for images of 32 pixels or so.
          dtype: computation dtype.
          rngs: its 'params' stream is drawn from.

        Raises:
          UserError: for another stem.
        """
        if stem not in ('imagenet', 'cifar'):
            raise UserError(f"unknown stem {stem!r}: choose 'imagenet' or 'cifar'.")
        self.dtype = jnp.dtype(dtype)
        self.pool_stem = stem == 'imagenet'
        kernel, stride = (7, 2) if stem == 'imagenet' else (3, 1)
        block = functools.partial(Bottleneck, groups=groups) if bottleneck else BasicBlock
        inputs = STAGE_WIDTHS[0]
        self.conv1 = conv(channels, inputs, kernel, stride=stride, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(inputs, dtype=dtype)
        for stage, (depth, width) in enumerate(zip(depths, STAGE_WIDTHS, strict=True), start=1):
            outputs = 4 * width if bottleneck else width
            inner = width * group_width // 64 * groups if bottleneck else width
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(block(inputs, inner, outputs, stride=stride, dtype=dtype, rngs=rngs))
                inputs = outputs
            setattr(self, f'layer{stage}', nnx.List(blocks))
        self.feature_dim = inputs
        self.classifier = linear(inputs, num_classes, rngs=rngs)

    def feature_maps(self, images: jax.Array, tap: Tap = untouched) -> dict[str, jax.Array]:
        """Returns 'stem' (after any max-pooling) and 'stage1' to 'stage4'."""
        x = nnx.relu(self.bn1(self.conv1(images.astype(self.dtype))))
        if self.pool_stem:
            x = max_pool(x)
        stages = (getattr(self, f'layer{stage}') for stage in range(1, len(STAGE_WIDTHS) + 1))
        return run_stages(x, stages, tap, remat=self.remat)
