"""Operations that change pixel values in place, on float images in [0, 1]."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.data.augment.geometry import Limits, Op, between
from ltjax.data.augment.loops import total


class Photometric(Op):
    """An operation on pixel values."""

    @abc.abstractmethod
    def apply(self, u: jax.Array, image: jax.Array) -> jax.Array:
        """Returns the image changed.

        Args:
          u: [draws] uniform draws in [0, 1).
          image: [H, W, C] float32 in [0, 1], C 1 or 3.

        Returns:
          [H, W, C] float32 in [0, 1].
        """


@dataclasses.dataclass(frozen=True)
class BrightnessContrast(Photometric):
    """x -> contrast * x + brightness: albumentations' `RandomBrightnessContrast`.

    Attributes:
      brightness: limit of the brightness, a fraction of the range of values.
      contrast: limit of the relative change of contrast; 0.2 is a factor in (0.8, 1.2).
    """

    brightness: Limits = 0.2
    contrast: Limits = 0.2

    @property
    def draws(self) -> int:
        return 3

    def apply(self, u: jax.Array, image: jax.Array) -> jax.Array:
        on = self.acts(u)
        brightness = jnp.where(on, between(u[1], self.brightness), 0.0)
        contrast = jnp.where(on, 1.0 + between(u[2], self.contrast), 1.0)
        return jnp.clip(contrast * image + brightness, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class RGBShift(Photometric):
    """Adds a constant to each channel by itself; leaves grey images alone.

    Attributes:
      limit: of the constants, in steps of 8-bit values (albumentations' `RGBShift`).
    """

    limit: Limits

    @property
    def draws(self) -> int:
        return 4

    def apply(self, u: jax.Array, image: jax.Array) -> jax.Array:
        if image.shape[-1] == 1:
            return image
        shifts = jnp.where(self.acts(u), between(u[1:], self.limit) / 255.0, 0.0)
        return jnp.clip(image + shifts[None, None, :], 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class OneOfBlur(Photometric):
    """One of motion blur, 3x3 median and 3x3 mean, drawn with these relative weights.

    The motion blur averages along a line through the pixel, of an odd length drawn from
    3..motion_size and of a random direction, anti-aliased. (albumentations' draws the two ends of
    the line at random, so it may also move the image by a pixel or two.) Borders are reflected.

    Attributes:
      motion: weight of the motion blur.
      median: weight of the median; 0 saves its cost.
      box: weight of the mean.
      motion_size: the longest line, odd; 7 is albumentations' default.
    """

    motion: float = 0.2
    median: float = 0.1
    box: float = 0.1
    motion_size: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = (self.motion, self.median, self.box)
        if min(weights) < 0.0 or sum(weights) <= 0.0:
            raise ValueError(f'OneOfBlur: weights must be non-negative, one positive: {weights}.')
        if self.motion_size < 3 or self.motion_size % 2 == 0:
            raise ValueError(f'OneOfBlur: motion_size must be odd, from 3: {self.motion_size}.')

    @property
    def draws(self) -> int:
        return 4

    def apply(self, u: jax.Array, image: jax.Array) -> jax.Array:
        on = self.acts(u)
        which = u[1] * (self.motion + self.median + self.box)
        is_motion = on & (which < self.motion)
        is_median = on & (which >= self.motion) & (which < self.motion + self.median)
        is_box = on & (which >= self.motion + self.median)

        reach = self.motion_size // 2 if self.motion else 1
        offset = jnp.arange(-reach, reach + 1, dtype=image.dtype)
        dy, dx = jnp.meshgrid(offset, offset, indexing='ij')
        square = jnp.maximum(jnp.abs(dy), jnp.abs(dx))
        angle = jnp.pi * u[2]
        half_length = 1.0 + jnp.floor(u[3] * reach)
        line = jnp.maximum(1.0 - jnp.abs(dx * jnp.sin(angle) - dy * jnp.cos(angle)), 0.0)
        line = jnp.where(square <= half_length, line, 0.0)
        kernel = jnp.where(square == 0.0, 1.0, 0.0)
        kernel = jnp.where(is_motion, line, kernel)
        kernel = jnp.where(is_box & (square <= 1.0), 1.0, kernel)
        kernel = kernel / jnp.sum(kernel)

        height, width, _ = image.shape
        margin = reach + 1 if self.median else reach
        padded = jnp.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode='reflect')
        if self.median:
            # Before the loop, which then copies the medians through the kernel of the identity.
            padded = jnp.where(is_median, _median_of_nine(padded), padded[1:-1, 1:-1])

        def row_of_taps(i: Any, padded: jax.Array, kernel: jax.Array) -> Any:
            row = jax.lax.dynamic_slice_in_dim(padded, i, height)
            return sum(kernel[i, j] * row[:, j : j + width] for j in range(2 * reach + 1))

        result = total(2 * reach + 1, row_of_taps, padded, kernel, image.shape)
        return jnp.clip(result, 0.0, 1.0)


def _median_of_nine(image: jax.Array) -> jax.Array:
    """Median over each 3x3 pixels, [H, W, C] to [H - 2, W - 2, C], by minima and maxima alone.

    The median of nine is the median of (largest of the minima, median of the medians, smallest
    of the maxima) of three triples: J. L. Smith, "Implementing median filters in XC4000E
    FPGAs", Xcell 23, 1996. Here the triples are the rows.
    """
    height, width, _ = image.shape
    columns = [image[:, j : j + width - 2] for j in range(3)]
    low, middle, high = (
        [triple[i : i + height - 2] for i in range(3)] for triple in _sort_three(*columns)
    )
    largest_low = jnp.maximum(jnp.maximum(low[0], low[1]), low[2])
    smallest_high = jnp.minimum(jnp.minimum(high[0], high[1]), high[2])
    return _sort_three(largest_low, _sort_three(*middle)[1], smallest_high)[1]


def _sort_three(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sorts three arrays elementwise, smallest first."""
    a, b = jnp.minimum(a, b), jnp.maximum(a, b)
    b, c = jnp.minimum(b, c), jnp.maximum(b, c)
    a, b = jnp.minimum(a, b), jnp.maximum(a, b)
    return a, b, c


@dataclasses.dataclass(frozen=True)
class GridDropout(Photometric):
    """Blackens a square in each cell of a grid of square cells.

    Cells have max(2, shorter side // units) pixels a side and their squares `ratio` times as many
    (rounded down, 1 at least, less than the cell), so about ratio^2 of the area is blackened.
    Defaults are albumentations'.

    Attributes:
      ratio: side of the square over side of the cell.
      units: cells along the shorter side.
      random_offset: whether the grid starts at a random pixel of its first cell.
    """

    ratio: float = 0.5
    units: int = 10
    random_offset: bool = False

    @property
    def draws(self) -> int:
        return 3

    def apply(self, u: jax.Array, image: jax.Array) -> jax.Array:
        height, width, _ = image.shape
        cell = max(2, min(height, width) // self.units)
        hole = min(max(int(cell * self.ratio), 1), cell - 1)
        offset = jnp.floor(u[1:] * cell).astype(jnp.int32) if self.random_offset else [0, 0]
        rows = (jnp.arange(height) + offset[0]) % cell < hole
        columns = (jnp.arange(width) + offset[1]) % cell < hole
        black = self.acts(u) & rows[:, None] & columns[None, :]
        return jnp.where(black[:, :, None], 0.0, image)
