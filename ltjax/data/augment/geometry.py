"""Operations that move pixels: each maps output coordinates to the input coordinates they show.

The operations of a list compose into one coordinate field, and the image is read once, so that an
image is interpolated at most once however many operations act on it. Borders are reflected
without repeating the edge pixel (`reflect_101`, albumentations' default).
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from ltjax.data.augment.interpolation import interpolated

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
    """An operation on coordinates."""

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


class Exact(Geometric):
    """An operation that maps pixel centres to pixel centres, so that nothing is interpolated."""

    @abc.abstractmethod
    def move(self, u: jax.Array, image: jax.Array) -> jax.Array:
        """Returns the image [H, W, C] moved, as `source` says, without reading pixels one by one.

        Args:
          u: [draws] uniform draws in [0, 1).
          image: [H, W, C], any dtype.
        """


@dataclasses.dataclass(frozen=True)
class HorizontalFlip(Exact):
    """Mirrors left and right."""

    @property
    def draws(self) -> int:
        return 1

    def source(
        self, u: jax.Array, y: jax.Array, x: jax.Array, shape: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array]:
        return y, jnp.where(self.acts(u), shape[1] - 1 - x, x)

    def move(self, u: jax.Array, image: jax.Array) -> jax.Array:
        return jnp.where(self.acts(u), image[:, ::-1], image)


@dataclasses.dataclass(frozen=True)
class VerticalFlip(Exact):
    """Mirrors top and bottom."""

    @property
    def draws(self) -> int:
        return 1

    def source(
        self, u: jax.Array, y: jax.Array, x: jax.Array, shape: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array]:
        return jnp.where(self.acts(u), shape[0] - 1 - y, y), x

    def move(self, u: jax.Array, image: jax.Array) -> jax.Array:
        return jnp.where(self.acts(u), image[::-1], image)


@dataclasses.dataclass(frozen=True)
class Shift(Exact):
    """Moves by whole pixels: the pad-and-crop of small images.

    Attributes:
      pixels: the largest move, each axis by itself uniform over -pixels..pixels.
      black: whether what lies outside the image is black, as in torchvision's `RandomCrop` with
        padding; else it is reflected.
    """

    pixels: int
    black: bool = False

    @property
    def black_outside(self) -> bool:
        return self.black

    @property
    def draws(self) -> int:
        return 3

    def source(
        self, u: jax.Array, y: jax.Array, x: jax.Array, shape: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array]:
        moves = self._moves(u)
        return y - moves[0], x - moves[1]

    def _moves(self, u: jax.Array) -> jax.Array:
        """Returns how far the image goes down and to the right: whole float32 numbers [2]."""
        moves = jnp.floor(u[1:] * (2 * self.pixels + 1)) - self.pixels
        return jnp.where(self.acts(u), moves, 0.0)

    def move(self, u: jax.Array, image: jax.Array) -> jax.Array:
        margins = ((self.pixels, self.pixels), (self.pixels, self.pixels), (0, 0))
        padded = jnp.pad(image, margins, mode='constant' if self.black else 'reflect')
        top, left = self.pixels - self._moves(u).astype(jnp.int32)
        return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


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

    Moves the pixels one operation after another if all are exact, else interpolates bilinearly,
    which is exact too where the coordinates are whole.

    Args:
      image: uint8 [H, W, C].
      u: [sum of the operations' draws] uniform draws.
      ops: the operations; may be empty.

    Returns:
      [H, W, C] float32 in the image's own range.
    """
    exact = [op for op in ops if isinstance(op, Exact)]
    if len(exact) == len(ops):
        start = 0
        for move in exact:
            image = move.move(u[start : start + move.draws], image)
            start += move.draws
        return image.astype(jnp.float32)
    height, width, _ = image.shape
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

    result = interpolated(image, y, x)
    if any(op.black_outside for op in ops):
        result = jnp.where(inside[:, :, None], result, 0.0)
    return result
