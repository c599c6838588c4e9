"""Convolution for `nnx.Conv`, and max-pooling, that are as quick on CPUs as on other devices.

XLA's CPU backend is slow in some cases that these networks meet. Measured on two cores with jax 0.10.2; a branch can
go as soon as the library takes no longer in its case:

- Depthwise. 7x7 over [8, 14, 14, 384] takes 29 ms, with both gradients 270 ms; as a sum over the kernel's taps,
  which XLA fuses into one loop, 1 ms and 17 ms. The gradients: https://github.com/jax-ml/jax/issues/13800.
- Grouped. The kernel's gradient of 3x3 in 32 groups over [4, 56, 56, 128] takes 6 s; with matrix products the whole
  takes 0.2 s. The same issue.
- More taps than pixels. XLA's algebraic simplifier then exchanges kernel and image, for fewer multiplications but
  without a quick routine (--xla_disable_hlo_passes=algsimp avoids it): ResNet-18 takes 1.7 s for a step of 16 images
  of 64 pixels, whose last maps are 2x2; 0.2 s with these convolutions as matrix products. We know of no issue.
- The gradient of a kernel. 3x3 over [16, 56, 56, 64] takes 35 ms, twice the forward pass; as matrix products over a
  few images at a time 19 ms. We know of no issue.
- Gradients inside a loop. Only outside does XLA bring them into the form that its quick routine takes; both are
  written in that form here, so that a loop of training steps is as quick as its steps, with the same bits. We know of
  no issue.

Elsewhere grouped convolutions, but for depthwise ones, have their batch split by hand: XLA (jax 0.10.2) has every
device gather the whole batch and convolve all of it, at each of the 16 in a ResNeXt-50 (scripts/ahead_of_time.py).

Max-pooling too: the gradient of 3x3 over [16, 112, 112, 64], XLA's SelectAndScatter, takes 230 ms, that of maxima of
shifted images 50 ms. We know of no issue.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax import sharding
from ltjax.models.taps import Pair, depthwise, pad, shifted, sides_after

# Of the images whose taps are joined; their copies then fit a cache of some MB.
_PIXELS_AT_A_TIME = 4096


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[Pair],
    *,
    feature_group_count: int = 1,
    precision: Any = None,
    **others: Any,
) -> jax.Array:
    """Returns what `jax.lax.conv_general_dilated` does, for `nnx.Conv(conv_general_dilated=...)`.

    Args:
      images: [B, H, W, C].
      kernel: [height, width, C / groups, outputs].
      window_strides: along height and width.
      padding: as XLA takes it.
      feature_group_count: number of channel groups.
      precision: of the products.
      **others: as `nnx.Conv` passes them for two-dimensional, undilated convolutions.
    """
    strides = (window_strides[0], window_strides[1])
    height, width, per_group, outputs = kernel.shape
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(images.shape[1:3], (height, width), strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)

    def by_library(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            images,
            kernel,
            strides,
            pads,
            feature_group_count=feature_group_count,
            precision=precision,
            **others,
        )

    def product(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return _product(images, kernel, strides, pads, feature_group_count, precision)

    def kernel_gradient(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
        if strides == (1, 1):
            return _kernel_gradient(images, gradient, kernel.shape, pads, precision)
        return jax.vjp(functools.partial(product, images), kernel)[1](gradient)[0]

    quick: Callable[[jax.Array, jax.Array], jax.Array]
    if per_group == 1 and outputs == feature_group_count > 1:
        quick = functools.partial(depthwise, strides=strides, pads=pads)
    elif feature_group_count > 1 or height * width > math.prod(
        sides_after(images, kernel, strides, pads)
    ):
        quick = product
    else:
        to_images = functools.partial(
            _image_gradient, strides=strides, pads=pads, precision=precision
        )
        quick = _with_gradients(by_library, to_images, kernel_gradient)
    default = by_library
    if feature_group_count > 1 and per_group > 1:
        default = functools.partial(sharding.map_rows, by_library)
    return jax.lax.platform_dependent(images, kernel, cpu=quick, default=default)


def max_pool(images: jax.Array) -> jax.Array:
    """Returns the largest of 3x3 pixels at every second one, with a border that never wins.

    [B, H, W, C] becomes [B, ceil(H / 2), ceil(W / 2), C].
    """

    def by_library(images: jax.Array) -> jax.Array:
        return nnx.max_pool(images, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

    def by_maxima(images: jax.Array) -> jax.Array:
        for axis in (1, 2):
            size = -(-images.shape[axis] // 2)
            pads = [(1, 1) if at == axis else (0, 0) for at in range(4)]
            padded = jnp.pad(images, pads, constant_values=-jnp.inf)
            parts = [
                jax.lax.slice_in_dim(padded, start, start + 2 * size - 1, 2, axis)
                for start in range(3)
            ]
            images = functools.reduce(jnp.maximum, parts)
        return images

    return jax.lax.platform_dependent(images, cpu=by_maxima, default=by_library)


def _product(
    images: jax.Array,
    kernel: jax.Array,
    strides: Pair,
    pads: tuple[Pair, ...],
    groups: int,
    precision: Any,
) -> jax.Array:
    moved = shifted(pad(images, pads), kernel, strides)
    if groups == 1:
        joined = jnp.concatenate(moved, axis=-1)
        rows, matrix = joined.reshape(-1, joined.shape[-1]), kernel.reshape(joined.shape[-1], -1)
        return jnp.matmul(rows, matrix, precision=precision).reshape(*joined.shape[:3], -1)
    patches = jnp.concatenate([x.reshape(*x.shape[:3], groups, -1) for x in moved], axis=-1)
    matrices = kernel.reshape(patches.shape[-1], groups, -1)
    products = jnp.einsum('bhwgi,igo->bhwgo', patches, matrices, precision=precision)
    return products.reshape(*products.shape[:3], -1)


def _with_gradients(
    convolve: Callable[[jax.Array, jax.Array], jax.Array],
    image_gradient: Callable[[tuple[int, ...], jax.Array, jax.Array], jax.Array],
    kernel_gradient: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns `convolve` of images and kernel, with derivatives of its own."""

    def forward(images: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
        return convolve(images, kernel), (images, kernel)

    def backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> Any:
        images, kernel = saved
        by_kernel = kernel_gradient(images, kernel, gradient)
        return image_gradient(images.shape, kernel, gradient), by_kernel.astype(kernel.dtype)

    function = jax.custom_vjp(convolve)
    function.defvjp(forward, backward)
    return function


def _image_gradient(
    shape: tuple[int, ...],
    kernel: jax.Array,
    gradient: jax.Array,
    strides: Pair,
    pads: tuple[Pair, ...],
    precision: Any,
) -> jax.Array:
    """Returns the gradient of images of `shape` [B, H, W, C], from that of the pixels [B, H', W', O].

    A convolution by the kernel turned round, of the gradient spread out by the strides. The kernel is turned first:
    else XLA folds that into the convolution, which then has no quick routine.
    """
    turned = jax.lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
    borders = []
    for axis in (0, 1):
        before = kernel.shape[axis] - 1 - pads[axis][0]
        span = strides[axis] * (gradient.shape[1 + axis] - 1) + 1
        after = shape[1 + axis] - span - before + kernel.shape[axis] - 1
        borders.append((before, after))
    return jax.lax.conv_general_dilated(
        gradient,
        turned,
        (1, 1),
        borders,
        lhs_dilation=strides,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        precision=precision,
    )


def _kernel_gradient(
    images: jax.Array,
    gradient: jax.Array,
    shape: tuple[int, ...],
    pads: tuple[Pair, ...],
    precision: Any,
) -> jax.Array:
    """Returns the gradient of an unstrided kernel [height, width, C, O], from that of the pixels [B, H', W', O].

    The images are joined with themselves, moved by each tap of a row, and the gradient with itself, moved by each
    of a column: one product [width C, pixels] x [pixels, height O] then has all taps, from fewer copies than taps.
    Some images at a time: the copies of all of them would not fit the cache, and take much memory.
    """
    height, width, channels, outputs = shape
    (top, _), (left, _) = pads
    parts = _parts(len(images), images.shape[1] * images.shape[2])
    wide = jnp.promote_types(images.dtype, jnp.float32)

    def product(images: jax.Array, gradient: jax.Array) -> jax.Array:
        across = [_move(images, 2, left - j, gradient.shape[2]) for j in range(width)]
        down = [_move(gradient, 1, i - top, images.shape[1]) for i in range(height)]
        pixels = ((0, 1, 2), (0, 1, 2))
        return jax.lax.dot_general(
            jnp.concatenate(across, axis=-1),
            jnp.concatenate(down, axis=-1),
            (pixels, ((), ())),
            precision=precision,
            preferred_element_type=wide,
        )

    def add(total: jax.Array, part: jax.Array) -> tuple[jax.Array, None]:
        # Every `parts`-th image, so that a batch shared out among devices stays where it is.
        some = (
            jax.lax.dynamic_index_in_dim(array.reshape(-1, parts, *array.shape[1:]), part, 1, False)
            for array in (images, gradient)
        )
        return total + product(*some), None

    empty = jnp.zeros((width * channels, height * outputs), wide)
    total, _ = jax.lax.scan(add, empty, jnp.arange(parts))
    return total.reshape(width, channels, height, outputs).transpose(2, 0, 1, 3)


def _parts(images: int, pixels: int) -> int:
    """Returns the largest number of equal parts with `_PIXELS_AT_A_TIME` or more in each, or 1."""
    most = max(1, images * pixels // _PIXELS_AT_A_TIME)
    return max(parts for parts in range(1, images + 1) if images % parts == 0 and parts <= most)


def _move(maps: jax.Array, axis: int, by: int, size: int) -> jax.Array:
    """Returns maps [B, H, W, C] moved along an axis, which is then cut or filled with zeros to a size."""
    edges = [(0, 0, 0)] * 4
    edges[axis] = (by, size - maps.shape[axis] - by, 0)
    return jax.lax.pad(maps, jnp.zeros((), maps.dtype), edges)
