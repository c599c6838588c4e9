"""Depthwise convolution as a sum over the kernel's taps, for CPUs; see `convolution`."""

import functools
import math

import jax
import jax.numpy as jnp

Pair = tuple[int, int]


def sides_after(
    images: jax.Array, kernel: jax.Array, strides: Pair, pads: tuple[Pair, ...]
) -> Pair:
    """Returns height and width of what a convolution of images [B, H, W, C] gives."""
    height, width = (
        (images.shape[1 + axis] + sum(pads[axis]) - kernel.shape[axis]) // strides[axis] + 1
        for axis in (0, 1)
    )
    return height, width


def pad(images: jax.Array, pads: tuple[Pair, ...]) -> jax.Array:
    """Returns images [B, H, W, C] with borders of zeros along H and W."""
    return jnp.pad(images, ((0, 0), *pads, (0, 0)))


def shifted(padded: jax.Array, kernel: jax.Array, strides: Pair) -> list[jax.Array]:
    """Returns for each tap, row by row, the pixels [B, H', W', C] that it is multiplied with."""
    down, right = strides
    height, width = sides_after(padded, kernel, strides, ((0, 0), (0, 0)))
    return [
        padded[:, i : i + down * (height - 1) + 1 : down, j : j + right * (width - 1) + 1 : right]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]


def depthwise(
    images: jax.Array, kernel: jax.Array, strides: Pair, pads: tuple[Pair, ...]
) -> jax.Array:
    """Returns images [B, H, W, C] convolved with a kernel [height, width, 1, C], in their dtype.

    Args:
      images: before `pads`.
      kernel: of one tap a channel and place.
      strides: along height and width.
      pads: before and after, along height and width.
    """
    # Sums in float32 at least; the conversions stay outside of the hand-written derivative.
    wide = jnp.promote_types(images.dtype, jnp.float32)
    padded = pad(images, pads).astype(wide)
    return _taps(padded, kernel.astype(wide), strides).astype(images.dtype)


@functools.partial(jax.jit, static_argnums=2)
def _sum_over_taps(padded: jax.Array, kernel: jax.Array, strides: Pair) -> jax.Array:
    """Depthwise convolution [B, H', W', C] of [B, H, W, C] by [height, width, 1, C], unpadded."""
    taps = kernel.reshape(-1, 1, 1, 1, kernel.shape[-1])
    first, *others = shifted(padded, kernel, strides)
    return sum((x * tap for x, tap in zip(others, taps[1:], strict=True)), first * taps[0])


def _taps_forward(
    padded: jax.Array, kernel: jax.Array, strides: Pair
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _sum_over_taps(padded, kernel, strides), (padded, kernel)


@functools.partial(jax.jit, static_argnums=0)
def _taps_backward(
    strides: Pair, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The transposed sums; differentiating `_sum_over_taps` gives 49 reductions, slow to compile."""
    padded, kernel = saved
    size = kernel.shape[:2]
    spans = tuple(strides[axis] * (gradient.shape[1 + axis] - 1) + 1 for axis in (0, 1))

    # With respect to the pixels: the flipped kernel over the gradient, spread out by the strides.
    borders = [
        (size[axis] - 1, padded.shape[1 + axis] - spans[axis], strides[axis] - 1) for axis in (0, 1)
    ]
    spread = jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), [(0, 0, 0), *borders, (0, 0, 0)])
    to_pixels = _sum_over_taps(spread, kernel[::-1, ::-1], (1, 1))

    # With respect to the kernel: one tap after another, which compiles one reduction for them all.
    def to_tap(tap: jax.Array) -> jax.Array:
        start = (0, tap // size[1], tap % size[1], 0)
        seen = jax.lax.dynamic_slice(padded, start, (len(padded), *spans, padded.shape[3]))
        return jnp.sum(seen[:, :: strides[0], :: strides[1]] * gradient, axis=(0, 1, 2))

    to_kernel = jax.lax.map(to_tap, jnp.arange(math.prod(size)))
    return to_pixels, to_kernel.reshape(kernel.shape)


_taps = jax.custom_vjp(_sum_over_taps, nondiff_argnums=(2,))
_taps.defvjp(_taps_forward, _taps_backward)
