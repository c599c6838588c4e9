"""Vision Transformers (Dosovitskiy et al. 2021), with what CLIP, DINOv2 and DINOv3 have changed in them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.nn.initializers import normal
from jax.typing import DTypeLike

from ltjax.errors import UserError, unknown
from ltjax.models.classifier import ImageClassifier, Tap, run_blocks, untouched
from ltjax.models.layers import at_least_float32
from ltjax.models.positions import resampled, rotations
from ltjax.models.transformer import INIT, MLPS, Block, Plan, layer_norm, linear

POOLS = ('token', 'mean', 'mean_of_normed')
POSITIONS = ('learned', 'rotary')


def by_patches(images: jax.Array, kernel: jax.Array, *_: Any, **options: Any) -> jax.Array:
    """Returns what `jax.lax.conv_general_dilated` does where the stride is the kernel's side, as a product of matrices.

    Args:
      images: [B, H, W, C], of sides that the kernel's divide.
      kernel: [side, side, C, outputs].
      options: of which `precision` counts.
    """
    side, outputs = kernel.shape[0], kernel.shape[-1]
    batch, height, width, channels = images.shape
    cells = images.reshape(batch, height // side, side, width // side, side, channels)
    rows = cells.transpose(0, 1, 3, 2, 4, 5).reshape(*cells.shape[:2], width // side, -1)
    return jnp.matmul(rows, kernel.reshape(-1, outputs), precision=options['precision'])


class Stem(nnx.Module):
    """Images to tokens: a class token, registers (Darcet et al. 2024), patches; and where each stands.

    A class token has a learned position of its own, registers have none.

    Attributes:
      class_token: [C], or None.
      registers: [R, C], or None.
      positions: [1 + grid * grid, C], without the first if there is no class token; None where they are rotary.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        patch: int,
        grid: int,
        class_token: bool,
        registers: int,
        learned: bool,
        pre_norm: bool,
        epsilon: float,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        def drawn(*shape: int, init: nnx.Initializer = INIT) -> nnx.Param[jax.Array]:
            return nnx.Param(init(rngs.params(), shape, jnp.float32))

        self.patch, self.grid, self.dtype = patch, grid, jnp.dtype(dtype)
        self.prefix = class_token + registers
        self.conv = nnx.Conv(
            channels,
            width,
            (patch, patch),
            strides=patch,
            padding='VALID',
            use_bias=not pre_norm,  # a norm follows, whose own bias does the same
            dtype=dtype,
            kernel_init=INIT,
            conv_general_dilated=by_patches,
            rngs=rngs,
        )
        self.class_token = drawn(width, init=normal(1e-6)) if class_token else None
        self.registers = drawn(registers, width, init=normal(1e-6)) if registers else None
        self.positions = drawn(class_token + grid * grid, width) if learned else None
        self.norm = layer_norm(width, epsilon=epsilon, dtype=dtype, rngs=rngs) if pre_norm else None

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns tokens [B, T, C] of images [B, H, W, channels]: class token, registers, then patches row by row.

        Raises:
          UserError: the patches do not divide the sides.
        """
        height, width = self.cells(images)
        x = self.conv(images.astype(self.dtype)).reshape(images.shape[0], height * width, -1)
        first = self.class_token[...] if self.class_token is not None else None
        if self.positions is not None:
            positions = self.positions[...]
            if first is not None:
                first, positions = first + positions[0], positions[1:]
            placed = resampled(positions, (self.grid, self.grid), (height, width))
            x = x + placed.astype(self.dtype)[None]
        before = [first[None]] if first is not None else []
        before += [self.registers[...]] if self.registers is not None else []
        if before:
            tokens = jnp.concatenate(before).astype(self.dtype)
            tokens = jnp.broadcast_to(tokens, (images.shape[0], *tokens.shape))
            x = jnp.concatenate([tokens, x], axis=1)
        return x if self.norm is None else self.norm(x)

    def cells(self, images: jax.Array) -> tuple[int, int]:
        """Returns how many patches high and wide images [B, H, W, channels] are.

        Raises:
          UserError: the patches do not divide the sides.
        """
        sides, patch = images.shape[1:3], self.patch
        if any(side % patch for side in sides):
            below, above = (
                'x'.join(str(max(round_(side / patch), 1) * patch) for side in sides)
                for round_ in (math.floor, math.ceil)
            )
            raise UserError(
                f'images of {sides[0]}x{sides[1]} pixels do not divide into patches of {patch}: make them {above}'
                f'{f" or {below}" if below != above else ""} (--config.data.image_size).'
            )
        return sides[0] // patch, sides[1] // patch


class ViT(ImageClassifier):
    """Blocks of attention over the patches of an image.

    Each block is a stage, whose map are its tokens [B, T, C]. Features are what the classifier sees: the class token or
    the mean of the patches, normalised.
    """

    may_be_fresh = ('classifier', 'pool_norm')
    explained = -2  # before the last block, from where every patch can still reach the class token

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        *,
        num_classes: int,
        channels: int = 3,
        patch: int = 16,
        grid: int = 0,
        pool: str = 'token',
        class_token: bool = True,
        registers: int = 0,
        positions: str = 'learned',
        mlp: str = 'gelu',
        layer_scale: float = 0.0,
        qkv_bias: bool = True,
        pre_norm: bool = False,
        epsilon: float = 1e-6,
        drop_path_rate: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Draws the weights: normal of deviation 0.02 (class token and registers 1e-6), biases zero.

        Args:
          width: C, channels of a token.
          depth: number of blocks.
          heads: of the attention; divide the width.
          num_classes: K.
          channels: of the images.
          patch: pixels a side.
          grid: patches a side that learned positions are kept for; 0: those of 224 pixels. Images of another size
            take positions between them.
          pool: 'token'; 'mean' of the patches, normalised after it (timm's fc_norm); or 'mean_of_normed' patches.
          class_token: whether there is one.
          registers: further tokens that belong to no patch.
          positions: 'learned', added to tokens; or 'rotary', which turn queries and keys of the patches (DINOv3).
          mlp: 'gelu', 'quick_gelu', 'swiglu' or 'swiglu_packed'.
          layer_scale: initial scale of each branch's channels; 0: no scale.
          qkv_bias: whether queries, keys and values have a bias.
          pre_norm: whether tokens are normalised before the first block, as in CLIP; then patches have no bias.
          epsilon: of the norms.
          drop_path_rate: of the last block's branches to be left out in training; it rises linearly from 0 at the first
            block. Above 0, training wants a key: `classifier.set_key`.
          dtype: computation dtype.
          rngs: its 'params' stream is drawn from.

        Raises:
          UserError: for a value that an option cannot take.
        """
        for option, value, known in (
            ('pool', pool, POOLS),
            ('positions', positions, POSITIONS),
            ('mlp', mlp, MLPS),
        ):
            if value not in known:
                raise unknown(f'{option} of a Vision Transformer', value, known)
        if pool == 'token' and not class_token:
            raise UserError("there is no class token to pool: choose pool='mean'.")
        if not 0 <= drop_path_rate < 1:
            raise UserError(f'drop_path_rate is {drop_path_rate}: choose 0 or more, below 1.')
        for option, number, least in (
            ('patch', patch, 1),
            ('grid', grid, 0),
            ('registers', registers, 0),
        ):
            if number < least:
                raise UserError(f'{option} is {number}: choose {least} or more.')
        self.dtype, self.pooling, self.rotary = jnp.dtype(dtype), pool, positions == 'rotary'
        self.stem = Stem(
            *(channels, width),
            patch=patch,
            grid=grid or max(224 // patch, 1),
            class_token=class_token,
            registers=registers,
            learned=not self.rotary,
            pre_norm=pre_norm,
            epsilon=epsilon,
            dtype=dtype,
            rngs=rngs,
        )
        self.plan = Plan(
            width,
            heads,
            mlp=mlp,
            qkv_bias=qkv_bias,
            layer_scale=layer_scale,
            epsilon=epsilon,
            dtype=dtype,
        )
        rates = np.linspace(0, drop_path_rate, depth).tolist()
        self.blocks = nnx.List(Block(self.plan, drop_path=rate, rngs=rngs) for rate in rates)
        self.feature_dim = width
        normed_first = pool != 'mean'
        self.norm: Any = layer_norm(width, epsilon=epsilon, rngs=rngs) if normed_first else None
        self.pool_norm: Any = (
            None if normed_first else layer_norm(width, epsilon=epsilon, rngs=rngs)
        )
        self.classifier = linear(width, num_classes, rngs=rngs)

    def further_block(self, rngs: nnx.Rngs) -> Block:
        """Returns a new block like those of this network."""
        return Block(self.plan, rngs=rngs)

    def feature_maps(self, images: jax.Array, tap: Tap = untouched) -> dict[str, jax.Array]:
        """Returns 'stem' and a stage for each block: tokens [B, T, C], those of the patches last, row by row.

        Raises:
          UserError: the patches do not divide the images' sides.
        """
        cells = self.stem.cells(images)
        rotation: tuple[jax.Array, ...] = ()
        if self.rotary:
            size = self.plan.width // self.plan.heads
            rotation = (rotations(cells, size, prefix=self.stem.prefix),)
        x = tap('stem', self.stem(images))
        maps = {'stem': x}
        # Written out, as a scan over stacked weights has one tap and one rate for all: it would compile in a third.
        for number, block in enumerate(self.blocks, start=1):
            name = f'stage{number}'
            x = maps[name] = tap(name, run_blocks([block], x, *rotation, remat=self.remat))
        return maps

    def pool(self, last: jax.Array) -> jax.Array:
        """Returns features [B, C] of tokens [B, T, C], normalised."""
        last = last.astype(at_least_float32(last.dtype))
        if self.pooling == 'token':
            return self.norm(last[:, 0])
        patches = last[:, self.stem.prefix :]
        if self.pooling == 'mean':
            return self.pool_norm(patches.mean(axis=1))
        return self.norm(patches).mean(axis=1)

    def spatial(self, feature_map: jax.Array, images: jax.Array) -> jax.Array:
        """Returns the patches among tokens [B, T, C] where they stand in the images: [B, H / patch, W / patch, C]."""
        patches = feature_map[:, self.stem.prefix :]
        return patches.reshape(images.shape[0], *self.stem.cells(images), -1)
