"""Colours and edges as torchvision changes them: `ColorJitter`, `RandomGrayscale`, `GaussianBlur` and others."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.data.augment.crops import boxes
from ltjax.data.augment.geometry import between
from ltjax.data.augment.loops import total
from ltjax.data.augment.photometry import Photometric

_ATTEMPTS = 10  # torchvision's, to find a rectangle
_GREY = (0.2989, 0.587, 0.114)


@dataclasses.dataclass(frozen=True)
class ColorJitter(Photometric):
    """Changes brightness, contrast, saturation and hue, in random order: torchvision's `ColorJitter`.

    Attributes:
      brightness, contrast, saturation: the limit of each factor's distance from 1; 0 leaves it alone.
      hue: limit of its shift, in turns of the colour circle, at most 0.5.
    """

    p: float = dataclasses.field(default=1.0, kw_only=True)
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    @property
    def draws(self) -> int:
        return 9

    def apply(self, u: jax.Array, image: jax.Array) -> jax.Array:
        limits = (self.brightness, self.contrast, self.saturation)
        factors = jnp.stack(
            [between(u[1 + k], (max(0.0, 1.0 - limits[k]), 1.0 + limits[k])) for k in range(3)]
        )
        turn = between(u[4], self.hue)
        order = jnp.argsort(u[5:])

        def change(place: jax.Array, image: jax.Array) -> jax.Array:
            kind = order[place]
            grey = to_grey(image)
            # Brightness blends with black, contrast with the mean, saturation with the grey image.
            towards = jnp.where(kind == 1, grey.mean(), jnp.where(kind == 2, grey, 0.0))
            factor = factors[jnp.minimum(kind, 2)]
            blended = jnp.clip(factor * image + (1.0 - factor) * towards, 0.0, 1.0)
            if not self.hue or image.shape[-1] == 1:
                return jnp.where(kind == 3, image, blended)
            return jnp.where(kind == 3, _turned(image, turn), blended)

        # A loop for the reason given in `interpolation.by_pixel`: what it makes is stored.
        changed = jax.lax.fori_loop(0, 4, change, image)
        return jnp.where(self.acts(u), changed, image)


def to_grey(image: jax.Array) -> jax.Array:
    """Returns the luminance [H, W, 1] of an image [H, W, 1 or 3]."""
    if image.shape[-1] == 1:
        return image
    return jnp.sum(image * jnp.asarray(_GREY)[None, None, :], axis=-1, keepdims=True)


def _turned(image: jax.Array, turn: jax.Array) -> jax.Array:
    """Turns the hue of an image [H, W, 3] by a share of the colour circle, in HSV."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value, least = image.max(axis=-1), image.min(axis=-1)
    chroma = value - least
    safe = jnp.where(chroma == 0.0, 1.0, chroma)
    sixths = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe),
    )
    sixths = jnp.where(chroma == 0.0, 0.0, sixths) + 6.0 * turn
    # Channel n of a hue h: value - chroma * clip(min(k, 4 - k), 0, 1), k = (n + h) mod 6, n = 5, 3, 1.
    k = (jnp.asarray([5.0, 3.0, 1.0])[None, None, :] + sixths[..., None]) % 6.0
    share = jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)
    return value[..., None] - chroma[..., None] * share


@dataclasses.dataclass(frozen=True)
class Greyscale(Photometric):
    """Takes the colours away: torchvision's `RandomGrayscale`."""

    p: float = dataclasses.field(default=0.1, kw_only=True)

    @property
    def draws(self) -> int:
        return 1

    def apply(self, u: jax.Array, image: jax.Array) -> jax.Array:
        return jnp.where(self.acts(u), jnp.broadcast_to(to_grey(image), image.shape), image)


@dataclasses.dataclass(frozen=True)
class GaussianBlur(Photometric):
    """A blur of random width: torchvision's `GaussianBlur`. Borders are reflected.

    Attributes:
      sigma: limits of the standard deviation, in pixels.
      size: pixels of the kernel along each axis, odd; in small images at most twice their size less one.
    """

    sigma: tuple[float, float] = (0.1, 2.0)
    size: int = 13

    @property
    def draws(self) -> int:
        return 2

    def apply(self, u: jax.Array, image: jax.Array) -> jax.Array:
        height, width, _ = image.shape
        reach = min(self.size // 2, height - 1, width - 1)
        offset = jnp.arange(-reach, reach + 1, dtype=image.dtype)
        kernel = jnp.exp(-0.5 * (offset / between(u[1], self.sigma)) ** 2)
        kernel = jnp.where(self.acts(u), kernel / kernel.sum(), jnp.where(offset == 0, 1.0, 0.0))
        padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode='reflect')

        def along(image: jax.Array, axis: int, length: int) -> jax.Array:
            def tap(i: Any, image: jax.Array, kernel: jax.Array) -> jax.Array:
                return kernel[i] * jax.lax.dynamic_slice_in_dim(image, i, length, axis)

            shape = list(image.shape)
            shape[axis] = length
            return total(2 * reach + 1, tap, image, kernel, tuple(shape))

        return jnp.clip(along(along(padded, 0, height), 1, width), 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Sharpness(Photometric):
    """Blends with a smoothed image: torchvision's `RandomAdjustSharpness`. The border stays as it is.

    Attributes:
      factor: 0 smooths, 1 leaves the image alone, 2 sharpens.
    """

    factor: float = 2.0

    @property
    def draws(self) -> int:
        return 1

    def apply(self, u: jax.Array, image: jax.Array) -> jax.Array:
        height, width, _ = image.shape
        places = [(i, j) for i in range(3) for j in range(3)]
        shifted = [image[i : height - 2 + i, j : width - 2 + j] for i, j in places]
        square = jnp.sum(jnp.stack(shifted), axis=0)
        smooth = image.at[1:-1, 1:-1].set((square + 4.0 * image[1:-1, 1:-1]) / 13.0)
        factor = jnp.where(self.acts(u), self.factor, 1.0)
        return jnp.clip(smooth + factor * (image - smooth), 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Erasing(Photometric):
    """Blackens a rectangle: torchvision's `RandomErasing` on images before they are normalised.

    Attributes:
      scale: limits of its area, a fraction of the image's.
      ratio: limits of its height over its width.
    """

    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)

    @property
    def draws(self) -> int:
        return 3 + 2 * _ATTEMPTS

    def apply(self, u: jax.Array, image: jax.Array) -> jax.Array:
        height, width, _ = image.shape
        # Its ratio is height over width, and it must be smaller than the image.
        wide, high, found = boxes(u[3:], (width, height), self.scale, self.ratio, spare=1)
        top = jnp.floor(u[1] * (height - high + 1))
        left = jnp.floor(u[2] * (width - wide + 1))
        y, x = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
        inside = (y >= top) & (y < top + high) & (x >= left) & (x < left + wide)
        return jnp.where((self.acts(u) & found & inside)[..., None], 0.0, image)
