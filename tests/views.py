"""Draws views of images, for the tests of the augmentations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data import augment

KEY = jax.random.key(0)


@functools.cache
def compiled(ops):
    return jax.jit(augment.view(ops, mean=[0.0], std=[1.0]))


def draw(ops, images, key=KEY):
    """Views in [0, 1]: normalised with mean 0 and deviation 1."""
    ops = ops if isinstance(ops, str) else tuple(ops)
    return np.asarray(compiled(ops)(key, jnp.asarray(images)))


def to_bytes(views):
    """The 8-bit values, for views that interpolate nothing."""
    values = np.rint(views * 255)
    np.testing.assert_allclose(views * 255, values, rtol=0, atol=1e-4)
    return values.astype(np.uint8)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height, width):
    """One smooth asymmetric grey image, uint8 [height, width, 1]."""
    y, x = np.mgrid[:height, :width]
    waves = np.sin(2.5 * y / height) + 0.7 * np.cos(4 * x / width + 1)
    return np.uint8(127 + 60 * waves)[:, :, None]


def repeat(image, count):
    return np.repeat(image[None], count, axis=0)
