"""Crops that are enlarged: torchvision's `RandomResizedCrop`."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from ltjax.data.augment.geometry import Geometric, between

_ATTEMPTS = 10  # torchvision's


def boxes(
    u: jax.Array,
    shape: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    *,
    spare: int = 0,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws sizes of a box by its area and its width over height, until one fits into the image.

    Args:
      u: [2 * attempts] uniform draws.
      shape: (H, W) of the image.
      scale: limits of the area, a fraction of the image's.
      ratio: limits of width over height, uniform in its logarithm.
      spare: pixels that must remain along each axis.

    Returns:
      Height and width, whole float32 numbers, of the first box that fits, and whether one does: scalars.
    """
    area, aspect = jnp.split(u, 2)
    area = between(area, scale) * (shape[0] * shape[1])
    aspect = jnp.exp(between(aspect, (math.log(ratio[0]), math.log(ratio[1]))))
    width, height = jnp.round(jnp.sqrt(area * aspect)), jnp.round(jnp.sqrt(area / aspect))
    fits = (width > 0) & (width <= shape[1] - spare) & (height > 0) & (height <= shape[0] - spare)
    first = jnp.argmax(fits)
    return height[first], width[first], fits[first]


@dataclasses.dataclass(frozen=True)
class ResizedCrop(Geometric):
    """A part of the image, enlarged to the image's size. At its border the part's own pixels repeat.

    Attributes:
      scale: limits of the part's area, a fraction of the image's.
      ratio: limits of its width over height.
    """

    p: float = dataclasses.field(default=1.0, kw_only=True)
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    @property
    def draws(self) -> int:
        return 3 + 2 * _ATTEMPTS

    def source(
        self, u: jax.Array, y: jax.Array, x: jax.Array, shape: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array]:
        height, width, found = boxes(u[3:], shape, self.scale, self.ratio)
        # Else torchvision takes the middle, as large as the limits of the ratio let it be.
        whole = shape[1] / shape[0]
        middle_width = shape[0] * min(max(whole, self.ratio[0]), self.ratio[1])
        middle_height = shape[1] / min(max(whole, self.ratio[0]), self.ratio[1])
        height = jnp.where(found, height, round(min(middle_height, shape[0])))
        width = jnp.where(found, width, round(min(middle_width, shape[1])))
        top = jnp.floor(u[1] * (shape[0] - height + 1))
        left = jnp.floor(u[2] * (shape[1] - width + 1))
        top = jnp.where(found, top, jnp.floor((shape[0] - height) / 2))
        left = jnp.where(found, left, jnp.floor((shape[1] - width) / 2))
        on = self.acts(u)
        return (
            jnp.where(on, _inside(y, height, shape[0], top), y),
            jnp.where(on, _inside(x, width, shape[1], left), x),
        )


def _inside(position: jax.Array, size: jax.Array, whole: int, start: jax.Array) -> jax.Array:
    """Returns where the pixel centres of an enlarged part lie, which starts at `start` and has `size` pixels."""
    within = (position + 0.5) * (size / whole) - 0.5
    return start + jnp.clip(within, 0.0, size - 1)
