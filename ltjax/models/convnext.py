"""ConvNeXt-Tiny, -Small and -Base (Liu et al. 2022, "A ConvNet for the 2020s")."""

import functools
from collections.abc import Sequence
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.nn.initializers import normal
from jax.typing import DTypeLike

from ltjax.errors import UserError
from ltjax.models.classifier import ImageClassifier, Tap, run_blocks, untouched
from ltjax.models.layers import conv, global_average

STEM_SIDE = {'imagenet': 4, 'cifar': 2}
INIT = normal(0.02)
LAYER_SCALE = 1e-6

# The variance is taken in two passes: one pass is inaccurate far from zero mean.
layer_norm = functools.partial(nnx.LayerNorm, epsilon=1e-6, use_fast_variance=False)
linear = functools.partial(nnx.Linear, kernel_init=INIT)
patches = functools.partial(conv, padding='VALID', bias=True, init=INIT)


class Stem(nnx.Module):
    """A convolution of patches without overlap, which drops what is left over, and a norm."""

    def __init__(
        self, inputs: int, outputs: int, *, side: int, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        self.conv = patches(inputs, outputs, side, stride=side, dtype=dtype, rngs=rngs)
        self.norm = layer_norm(outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class Downsample(nnx.Module):
    """A norm and a convolution of 2x2 patches, between two stages."""

    def __init__(self, inputs: int, outputs: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.norm = layer_norm(inputs, dtype=dtype, rngs=rngs)
        self.conv = patches(inputs, outputs, 2, stride=2, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(self.norm(x))


class Block(nnx.Module):
    """A 7x7 depthwise convolution, then two layers over channels alone (figure 4, right).

    The branch is scaled per channel by `layer_scale` and, in training, left out for whole images at
    random (stochastic depth, Huang et al. 2016); where it is kept, it grows by 1 / (1 - rate).

    Attributes:
      adapter: of the input of the two layers, added to what there is after them; see `tuning`.
    """

    adapter: Any = None

    def __init__(self, width: int, *, drop_path: float, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.depthwise = conv(
            width, width, 7, groups=width, bias=True, init=INIT, dtype=dtype, rngs=rngs
        )
        self.norm = layer_norm(width, dtype=dtype, rngs=rngs)
        self.expand = linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.project = linear(4 * width, width, dtype=dtype, rngs=rngs)
        self.layer_scale = nnx.Param(jnp.full(width, LAYER_SCALE, jnp.float32))
        self.drop_path = nnx.Dropout(drop_path, broadcast_dims=(1, 2, 3))

    def __call__(self, x: jax.Array) -> jax.Array:
        normed = self.norm(self.depthwise(x))
        branch = self.project(nnx.gelu(self.expand(normed), approximate=False))
        branch = branch * self.layer_scale[...].astype(branch.dtype)[None, None, None, :]
        y = x + self.drop_path(branch)
        return y if self.adapter is None else y + self.adapter(normed)


class Stage(nnx.Module):
    """Blocks of one width; all stages but the first halve the image's sides before."""

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        drop_paths: Sequence[float],
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        halves = inputs != width
        self.downsample = Downsample(inputs, width, dtype=dtype, rngs=rngs) if halves else None
        self.blocks = nnx.List(
            Block(width, drop_path=rate, dtype=dtype, rngs=rngs) for rate in drop_paths
        )

    def __call__(self, x: jax.Array, *, remat: bool) -> jax.Array:
        if self.downsample is not None:
            x = self.downsample(x)
        return run_blocks(self.blocks, x, remat=remat)


class ConvNeXt(ImageClassifier):
    """A convolutional network in the manner of a Swin transformer, normalised by layer.

    Its features are what the classifier sees: the average over space of the last stage's output,
    normalised.
    """

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        *,
        num_classes: int,
        channels: int = 3,
        stem: str = 'imagenet',
        drop_path_rate: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Draws the weights: normal of deviation 0.02, biases zero, layer scales 1e-6.

        Args:
          depths: blocks in each stage.
          widths: channels in each stage.
          num_classes: K.
          channels: of the images.
          stem: 'imagenet' (4x4 patches) or 'cifar' (2x2 patches) for small images.
          drop_path_rate: of the last block's branch to be left out in training; it rises linearly
            from 0 at the first block. The paper trains T, S and B at 0.1, 0.4 and 0.5. Above 0,
            training wants a key: `classifier.set_key`.
          dtype: computation dtype.
          rngs: its 'params' stream is drawn from.

        Raises:
          UserError: for another stem, or a rate that is not at least 0 and below 1.
        """
        if stem not in STEM_SIDE:
            raise UserError(f"unknown stem {stem!r}: choose 'imagenet' or 'cifar'.")
        if not 0 <= drop_path_rate < 1:
            raise UserError(f'drop_path_rate is {drop_path_rate}: choose 0 or more, below 1.')
        self.dtype = jnp.dtype(dtype)
        # Each stage halves the sides but the first: below this the last map would be empty.
        self.least_side = STEM_SIDE[stem] * 2 ** (len(depths) - 1)
        self.stem = Stem(channels, widths[0], side=STEM_SIDE[stem], dtype=dtype, rngs=rngs)
        rates = iter(np.linspace(0, drop_path_rate, sum(depths)).tolist())
        self.stages = nnx.List(
            Stage(inputs, width, drop_paths=[*islice(rates, depth)], dtype=dtype, rngs=rngs)
            for depth, inputs, width in zip(depths, (widths[0], *widths), widths, strict=False)
        )
        self.feature_dim = widths[-1]
        self.norm = layer_norm(self.feature_dim, rngs=rngs)
        self.classifier = linear(self.feature_dim, num_classes, rngs=rngs)

    def feature_maps(self, images: jax.Array, tap: Tap = untouched) -> dict[str, jax.Array]:
        """Returns 'stem' and 'stage1' to 'stage4'.

        Raises:
          UserError: for images too small to leave a pixel in the last stage.
        """
        height, width = images.shape[1:3]
        if min(height, width) < self.least_side:
            raise UserError(
                f'images of {height}x{width} pixels are too small for this ConvNeXt: enlarge them '
                f"to {self.least_side} a side or more, or choose the stem 'cifar'."
            )
        x = tap('stem', self.stem(images.astype(self.dtype)))
        maps = {'stem': x}
        for number, stage in enumerate(self.stages, start=1):
            name = f'stage{number}'
            x = maps[name] = tap(name, stage(x, remat=self.remat))
        return maps

    def pool(self, last: jax.Array) -> jax.Array:
        """Returns features [B, C]: the average over space, normalised."""
        return self.norm(global_average(last))
