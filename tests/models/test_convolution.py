"""Convolutions in other forms: the library's numbers and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from ltjax.models import convolution
from ltjax.models.convolution import convolve

LAYOUT = ('NHWC', 'HWIO', 'NHWC')

# Kernel, stride, padding, height, width, groups, outputs; six channels in.
CASES = {
    'depthwise': (7, 1, [(3, 3), (3, 3)], 9, 8, 6, 6),
    'depthwise, stride': (3, 2, [(1, 1), (1, 1)], 8, 7, 6, 6),
    'depthwise, as TensorFlow': (5, 2, 'SAME', 8, 7, 6, 6),
    'depthwise, larger than the map': (7, 1, [(3, 3), (3, 3)], 1, 2, 6, 6),
    'grouped': (3, 1, [(1, 1), (1, 1)], 5, 4, 3, 9),
    'grouped, stride': (3, 2, [(1, 1), (1, 1)], 5, 4, 2, 4),
    'channel multiplier': (3, 1, 'SAME', 4, 4, 6, 12),
    'larger than the map': (3, 1, [(1, 1), (1, 1)], 2, 2, 1, 5),
    'larger than the map, stride': (3, 2, [(1, 1), (1, 1)], 4, 3, 1, 5),
    'larger than the map, as TensorFlow': (3, 2, 'SAME', 3, 1, 1, 5),
    'plain': (3, 1, [(1, 1), (1, 1)], 5, 5, 1, 5),
    'one tap': (1, 1, 'SAME', 1, 1, 1, 5),
}


def library(images, kernel, strides, padding, **options):
    return jax.lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=LAYOUT, **options
    )


def ours(*args, **options):
    return convolve(*args, dimension_numbers=LAYOUT, **options)


def drawn(name):
    size, _, _, height, width, groups, outputs = CASES[name]
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, height, width, 6)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 6 // groups, outputs)).astype(np.float32)
    return jnp.asarray(images), jnp.asarray(kernel)


def values_and_gradients(form, name):
    _, stride, padding, _, _, groups, _ = CASES[name]

    def run(images, kernel):
        y = form(images, kernel, (stride, stride), padding, feature_group_count=groups)
        return jnp.sum(jnp.sin(y)), y

    (_, y), gradients = jax.jit(jax.value_and_grad(run, (0, 1), has_aux=True))(*drawn(name))
    return y, *gradients


@pytest.mark.parametrize('name', CASES)
def test_values_and_gradients_are_the_library_s(name):
    wants = values_and_gradients(library, name)
    for got, want in zip(values_and_gradients(ours, name), wants, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_gradient_of_a_gradient():
    images, kernel = drawn('depthwise, stride')

    def run(images, kernel):
        y = ours(images, kernel, (2, 2), 'SAME', feature_group_count=6)
        return jnp.sum(jnp.sin(y))

    with jax.enable_x64(True):
        arguments = images.astype(jnp.float64), kernel.astype(jnp.float64)
        check_grads(jax.jit(run), arguments, order=2, modes=['rev'])


@pytest.mark.parametrize('name', ['depthwise', 'grouped', 'larger than the map'])
def test_bfloat16(name):
    _, stride, padding, _, _, groups, _ = CASES[name]
    images, kernel = drawn(name)
    options = (stride, stride), padding
    y = ours(
        images.astype(jnp.bfloat16),
        kernel.astype(jnp.bfloat16),
        *options,
        feature_group_count=groups,
    )
    want = library(images, kernel, *options, feature_group_count=groups)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), want, atol=0.02 * np.abs(want).max())


def test_slow_forms_are_left_out_on_cpus():
    for name in CASES:
        _, stride, padding, _, _, groups, _ = CASES[name]

        def run(images, kernel, strides=(stride, stride), padding=padding, groups=groups):
            return ours(images, kernel, strides, padding, feature_group_count=groups)

        text = jax.jit(run).lower(*drawn(name)).as_text()
        assert ('stablehlo.convolution' in text) == (name in ('plain', 'one tap')), name


@pytest.mark.parametrize('shape', [(2, 8, 8, 3), (2, 7, 5, 3), (1, 1, 2, 1)])
def test_max_pooling_is_that_of_the_library(shape):
    images = jax.random.normal(jax.random.key(0), shape)

    def library(images):
        return nnx.max_pool(images, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

    np.testing.assert_array_equal(convolution.max_pool(images), library(images))
    weights = jax.random.normal(jax.random.key(1), library(images).shape)
    ours, theirs = (
        jax.grad(lambda x, f=f: jnp.sum(f(x) * weights))(images)
        for f in (convolution.max_pool, library)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert np.isnan(convolution.max_pool(images.at[0, 0, 0, 0].set(jnp.nan))[0, 0, 0, 0])
    assert convolution.max_pool(images.astype(jnp.bfloat16)).dtype == jnp.bfloat16
