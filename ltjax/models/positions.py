"""Where a token stands in an image: learned positions for a grid of any size, and rotary ones."""

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.models.layers import at_least_float32

# The longest wave of rotary positions beside the shortest, which is half an image's side (timm's and DINOv3's base).
LONGEST_WAVE = 100.0


def resampled(positions: jax.Array, old: tuple[int, int], new: tuple[int, int]) -> jax.Array:
    """Returns learned positions of one grid [h * w, C] for another [H * W, C], both row by row, float32.

    Bicubic, and antialiased where the new grid is the coarser, as timm's `resample_abs_pos_embed`.

    Args:
      positions: of the grid `old`, (height, width); without those of a class token.
      old: the grid they are for.
      new: the grid they are wanted for.
    """
    if old == new:
        return positions
    grid = positions.astype(jnp.float32).reshape(*old, -1)
    wanted = jax.image.resize(grid, (*new, grid.shape[-1]), 'bicubic', antialias=True)
    return wanted.reshape(new[0] * new[1], -1)


def rotations(cells: tuple[int, int], size: int, *, prefix: int = 0) -> jax.Array:
    """Returns cosines and sines, float32 [2, T, size], of the angles that turn the channels of one head.

    Half of the pairs of channels turn with the height at which a patch stands, from -1 at the upper edge to 1 at the
    lower, half with its place from left to right, each at a wavelength of its own (Simeoni et al. 2025, "DINOv3").

    Args:
      cells: patches high and wide.
      size: channels of a head, a multiple of 4.
      prefix: tokens before those of the patches, which are not turned.
    """
    waves = LONGEST_WAVE ** (np.arange(size // 4) / (size // 4))
    places = [(np.arange(number) + 0.5) / number * 2 - 1 for number in cells]
    coordinates = np.stack(np.meshgrid(*places, indexing='ij'), axis=-1).reshape(-1, 2, 1)
    angles = (2 * np.pi * coordinates / waves).reshape(len(coordinates), -1)
    angles = np.concatenate([np.zeros((prefix, size // 2)), angles])
    return jnp.asarray(np.tile([np.cos(angles), np.sin(angles)], 2), jnp.float32)


def rotated(x: jax.Array, rotation: jax.Array) -> jax.Array:
    """Returns `x` [B, T, heads, size] with channels i and i + size / 2 turned by `rotations` [2, T, size]."""
    cosines, sines = rotation[:, None, :, None, :]
    wide = x.astype(at_least_float32(x.dtype))
    first, second = jnp.split(wide, 2, axis=-1)
    turned = wide * cosines + jnp.concatenate([-second, first], axis=-1) * sines
    return turned.astype(x.dtype)
