"""ConvNeXt-Tiny's depthwise convolutions: XLA's own against the sum over taps of ltjax/models/convolution.py."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.models import taps

from .measure import median_seconds, on_accelerator

# Channels and side of the maps, of images of 224 pixels.
MAPS = ((96, 56), (192, 28), (384, 14), (768, 7))
PADS = ((3, 3), (3, 3))
# With respect to which of images and kernel; none: the forward pass alone.
PARTS: dict[str, tuple[int, ...]] = {
    'step': (0, 1),
    'forward': (),
    'to_images': (0,),
    'to_kernel': (1,),
}

Convolve = Callable[[jax.Array, jax.Array], jax.Array]


def by_library(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the convolution as XLA has it."""
    return jax.lax.conv_general_dilated(
        images,
        kernel,
        (1, 1),
        PADS,
        feature_group_count=images.shape[3],
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


def by_taps(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns it as a sum over the kernel's taps, with a derivative of its own."""
    return taps.depthwise(images, kernel, (1, 1), PADS)


WAYS: dict[str, Convolve] = {'library': by_library, 'taps': by_taps}


def compare(channels: int, side: int, part: str, *, small: bool) -> dict[str, Any]:
    """Milliseconds of both ways on a batch of 64.

    Args:
      channels: of the maps.
      side: of the maps, in pixels.
      part: of PARTS: 'step' is the forward pass and both gradients.
      small: tiny sizes.
    """
    batch, calls, turns = (2, 1, 1) if small else (64, 10, 5)
    channels = 4 if small else channels
    dtype = jnp.bfloat16 if on_accelerator() else jnp.float32
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], (batch, side, side, channels), dtype)
    kernel = jax.random.normal(keys[1], (7, 7, 1, channels), dtype) / 7
    gradient = jax.random.normal(keys[2], images.shape, dtype)
    work = {name: _work(way, PARTS[part]) for name, way in WAYS.items()}
    results = {name: function(images, kernel, gradient) for name, function in work.items()}
    off = jax.tree.map(_difference, results['taps'], results['library'])

    def called(function: Callable[..., Any]) -> Callable[[], Any]:
        return lambda: jax.block_until_ready(
            [function(images, kernel, gradient) for _ in range(calls)]
        )

    seconds = median_seconds({name: called(function) for name, function in work.items()}, turns)
    return {
        'part': part,
        'channels': channels,
        'side': side,
        'batch': batch,
        'dtype': str(jnp.dtype(dtype)),
        **{f'{name}_ms': 1e3 * value / calls for name, value in seconds.items()},
        'taps_over_library': seconds['taps'] / seconds['library'],
        'largest_relative_difference': max(jax.tree.leaves(off)),
    }


def _work(convolve: Convolve, argnums: tuple[int, ...]) -> Callable[..., Any]:
    """Returns a jitted function of images, kernel and gradient: the outputs and what is asked for of the gradients."""

    def forward(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        return convolve(images, kernel)

    def both(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        outputs, backward = jax.vjp(convolve, images, kernel)
        gradients = backward(gradient)
        # A gradient alone is to have no forward pass beside it, which no gradient needs.
        return (outputs, gradients) if len(argnums) == 2 else gradients[argnums[0]]

    return jax.jit(both if argnums else forward)


def _difference(a: jax.Array, b: jax.Array) -> float:
    """Returns the largest difference of two arrays, over the largest value of the second."""
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return float(jnp.abs(a - b).max() / jnp.abs(b).max())
