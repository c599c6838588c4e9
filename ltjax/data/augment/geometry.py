"""Operations that move pixels: each maps output coordinates to the input coordinates they show.

The operations of a list compose into one coordinate field, and the image is read once, so that an
image is interpolated at most once however many operations act on it. Borders are reflected
without repeating the edge pixel (`reflect_101`, albumentations' default).
"""

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

Limits = float | tuple[float, float]


def between(u: jax.Array, limits: Limits) -> jax.Array:
    """Maps uniform draws in [0, 1) to (-limits, limits), or to the two limits given."""
    low, high = limits if isinstance(limits, tuple) else (-limits, limits)
    return low + (high - low) * u


@dataclasses.dataclass(frozen=True, kw_only=True)
class Op(abc.ABC):
    """One random operation on one image.

    Attributes:
      p: probability that the operation acts on an image.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.p <= 1.0:
            raise ValueError(f'{type(self).__name__}: p must lie in [0, 1], not {self.p}.')

    @property
    @abc.abstractmethod
    def draws(self) -> int:
        """Number of uniform draws that one image takes."""

    def acts(self, u: jax.Array) -> jax.Array:
        """Whether the operation acts, by the first of its draws: a scalar bool."""
        return u[0] < self.p


class Geometric(Op):
    """An operation on coordinates.

    Attributes:
      exact: True if it maps pixel centres to pixel centres, so that nothing is interpolated.
    """

    exact: ClassVar[bool] = False

    @property
    def black_outside(self) -> bool:
        """Whether what lies outside the operation's input is black; else it is reflected."""
        return False

    @abc.abstractmethod
    def source(
        self, u: jax.Array, y: jax.Array, x: jax.Array, shape: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array]:
        """Returns where in the operation's input its output reads.

        Args:
          u: [draws] uniform draws in [0, 1).
          y: rows of the output, [H, 1] or [H, W], in pixels from the first centre.
          x: columns of the output, [1, W] or [H, W].
          shape: (H, W).
        """


@dataclasses.dataclass(frozen=True)
class HorizontalFlip(Geometric):
    """Mirrors left and right."""

    exact: ClassVar[bool] = True

    @property
    def draws(self) -> int:
        return 1

    def source(
        self, u: jax.Array, y: jax.Array, x: jax.Array, shape: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array]:
        return y, jnp.where(self.acts(u), shape[1] - 1 - x, x)


@dataclasses.dataclass(frozen=True)
class VerticalFlip(Geometric):
    """Mirrors top and bottom."""

    exact: ClassVar[bool] = True

    @property
    def draws(self) -> int:
        return 1

    def source(
        self, u: jax.Array, y: jax.Array, x: jax.Array, shape: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array]:
        return jnp.where(self.acts(u), shape[0] - 1 - y, y), x


@dataclasses.dataclass(frozen=True)
class Shift(Geometric):
    """Moves by whole pixels: the pad-and-crop of small images.

    Attributes:
      pixels: the largest move, each axis by itself uniform over -pixels..pixels.
      black: whether what lies outside the image is black, as in torchvision's `RandomCrop` with
        padding; else it is reflected.
    """

    pixels: int
    black: bool = False
    exact: ClassVar[bool] = True

    @property
    def black_outside(self) -> bool:
        return self.black

    @property
    def draws(self) -> int:
        return 3

    def source(
        self, u: jax.Array, y: jax.Array, x: jax.Array, shape: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array]:
        moves = jnp.floor(u[1:] * (2 * self.pixels + 1)) - self.pixels
        moves = jnp.where(self.acts(u), moves, 0.0)
        return y - moves[0], x - moves[1]


@dataclasses.dataclass(frozen=True)
class Affine(Geometric):
    """Rotates and scales about the centre, then moves.

    It is albumentations' `ShiftScaleRotate`, or torchvision's `RandomAffine` with bilinear interpolation.

    Each limit is symmetric, or a pair (low, high).

    Attributes:
      degrees: rotation, positive counter-clockwise.
      translate: move along each axis, as a fraction of the image's size along it.
      scale: relative change of size; 0.2 is a factor in (0.8, 1.2).
      black: whether what lies outside the image is black, as torchvision has it; else it is reflected.
    """

    degrees: Limits
    translate: Limits = 0.0
    scale: Limits = 0.0
    black: bool = False

    @property
    def black_outside(self) -> bool:
        return self.black

    @property
    def draws(self) -> int:
        return 5

    def source(
        self, u: jax.Array, y: jax.Array, x: jax.Array, shape: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array]:
        angle = jnp.deg2rad(between(u[1], self.degrees))
        size = 1.0 + between(u[2], self.scale)
        move_y = between(u[3], self.translate) * shape[0]
        move_x = between(u[4], self.translate) * shape[1]
        # With the identity's numbers the arithmetic below is exact, so an image that the
        # operation leaves alone keeps its bits.
        on = self.acts(u)
        cos = jnp.where(on, jnp.cos(angle) / size, 1.0)
        sin = jnp.where(on, jnp.sin(angle) / size, 0.0)
        centre_y, centre_x = (shape[0] - 1) / 2, (shape[1] - 1) / 2
        from_y = y - centre_y - jnp.where(on, move_y, 0.0)
        from_x = x - centre_x - jnp.where(on, move_x, 0.0)
        # Rows grow downwards, so this turns the picture counter-clockwise.
        return (
            cos * from_y + sin * from_x + centre_y,
            cos * from_x - sin * from_y + centre_x,
        )


def reflect(position: jax.Array, size: int) -> jax.Array:
    """Folds coordinates into [0, size - 1] by reflection at the first and last pixel centres."""
    period = max(2 * (size - 1), 1)
    return jnp.abs(position - period * jnp.round(position / period))


def resample(image: jax.Array, u: jax.Array, ops: tuple[Geometric, ...]) -> jax.Array:
    """Applies geometric operations, in their order, by reading the image once.

    Reads single pixels if all the operations are exact, else interpolates bilinearly, which
    is exact too where the coordinates are whole.

    Args:
      image: [H, W, C], any real dtype.
      u: [sum of the operations' draws] uniform draws.
      ops: the operations; may be empty.

    Returns:
      [H, W, C] float32 in the image's own range.
    """
    if not ops:
        return image.astype(jnp.float32)
    height, width, channels = image.shape
    y = jnp.arange(height, dtype=jnp.float32)[:, None]
    x = jnp.arange(width, dtype=jnp.float32)[None, :]
    end = sum(op.draws for op in ops)
    inside = jnp.ones((1, 1), bool)
    # Output coordinates go back through the operations from the last to the first.
    for op in reversed(ops):
        start = end - op.draws
        y, x = op.source(u[start:end], y, x, (height, width))
        if op.black_outside:  # half a pixel beyond the outermost centres
            inside = (jnp.abs(y - (height - 1) / 2) < height / 2) & inside
            inside = (jnp.abs(x - (width - 1) / 2) < width / 2) & inside
        y, x = reflect(y, height), reflect(x, width)
        end = start

    pixels = image.reshape(height * width, channels)

    def read(row: jax.Array, column: jax.Array) -> jax.Array:
        index = row * width + column
        return pixels.at[index].get(mode='clip').astype(jnp.float32)

    def shown(values: jax.Array) -> jax.Array:
        if not any(op.black_outside for op in ops):
            return values
        return jnp.where(inside[:, :, None], values, 0.0)

    if all(op.exact for op in ops):
        return shown(read(y.astype(jnp.int32), x.astype(jnp.int32)))
    y, x = jnp.broadcast_to(y, (height, width)), jnp.broadcast_to(x, (height, width))
    top, left = y.astype(jnp.int32), x.astype(jnp.int32)
    right = jnp.minimum(left + 1, width - 1)
    down = (y - top.astype(jnp.float32))[:, :, None]
    along = (x - left.astype(jnp.float32))[:, :, None]

    def add_row(i: jax.Array, total: jax.Array) -> jax.Array:
        row = jnp.minimum(top + i, height - 1)
        values = read(row, left) * (1.0 - along) + read(row, right) * along
        return total + jnp.where(i == 0, 1.0 - down, down) * values

    # A loop, because its result is stored: written out, XLA's CPU compiler would fuse the
    # resampling into a blur that follows and repeat it for each of the blur's nine pixels.
    return shown(jax.lax.fori_loop(0, 2, add_row, jnp.zeros(image.shape, jnp.float32)))
