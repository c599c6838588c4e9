"""Convolutions in other forms: the library's numbers and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from ltjax import sharding
from ltjax.models import convolution
from ltjax.models.convolution import convolve

pytestmark = pytest.mark.slow

LAYOUT = ('NHWC', 'HWIO', 'NHWC')

# Kernel, stride, padding, height, width, groups, outputs, channels in.
CASES = {
    'depthwise': (7, 1, [(3, 3), (3, 3)], 9, 8, 6, 6, 6),
    'depthwise, stride': (3, 2, [(1, 1), (1, 1)], 8, 7, 6, 6, 6),
    'depthwise, as TensorFlow': (5, 2, 'SAME', 8, 7, 6, 6, 6),
    'depthwise, larger than the map': (7, 1, [(3, 3), (3, 3)], 1, 2, 6, 6, 6),
    'grouped': (3, 1, [(1, 1), (1, 1)], 5, 4, 3, 9, 6),
    'grouped, stride': (3, 2, [(1, 1), (1, 1)], 5, 4, 2, 4, 6),
    'channel multiplier': (3, 1, 'SAME', 4, 4, 6, 12, 6),
    'larger than the map': (3, 1, [(1, 1), (1, 1)], 2, 2, 1, 5, 6),
    'larger than the map, stride': (3, 2, [(1, 1), (1, 1)], 4, 3, 1, 5, 6),
    'larger than the map, as TensorFlow': (3, 2, 'SAME', 3, 1, 1, 5, 6),
    'plain': (3, 1, [(1, 1), (1, 1)], 5, 5, 1, 5, 6),
    'one tap': (1, 1, 'SAME', 1, 1, 1, 5, 6),
    'many channels': (3, 1, [(1, 1), (1, 1)], 6, 5, 1, 5, 16),
    'many channels, one tap': (1, 1, 'SAME', 3, 2, 1, 5, 16),
    'many channels, uneven': (4, 1, [(0, 3), (2, 0)], 6, 7, 1, 5, 17),
    'many channels, no border': (3, 1, 'VALID', 6, 5, 1, 5, 16),
    'many channels, wide border': (2, 1, [(3, 3), (2, 4)], 4, 5, 1, 5, 16),
    'many channels, stride': (3, 2, [(1, 1), (1, 1)], 7, 6, 1, 5, 16),
    'many channels, one tap, stride': (1, 2, 'SAME', 7, 6, 1, 5, 16),
}


def library(images, kernel, strides, padding, **options):
    return jax.lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=LAYOUT, **options
    )


def ours(*args, **options):
    return convolve(*args, dimension_numbers=LAYOUT, **options)


def drawn(name):
    size, _, _, height, width, groups, outputs, inputs = CASES[name]
    rng = np.random.default_rng(0)
    images = rng.normal(size=(6, height, width, inputs)).astype(np.float32)
    kernel = rng.normal(size=(size, size, inputs // groups, outputs)).astype(np.float32)
    return jnp.asarray(images), jnp.asarray(kernel)


def values_and_gradients(form, name, *arguments):
    _, stride, padding, _, _, groups, _, _ = CASES[name]

    def run(images, kernel):
        y = form(images, kernel, (stride, stride), padding, feature_group_count=groups)
        return jnp.sum(jnp.sin(y)), y

    (_, y), gradients = jax.jit(jax.value_and_grad(run, (0, 1), has_aux=True))(
        *(arguments or drawn(name))
    )
    return y, *gradients


@pytest.mark.parametrize(
    ('name', 'pixels_at_a_time'),
    [*((name, 4096) for name in CASES), *((name, 100) for name in CASES if 'many' in name)],
)
def test_values_and_gradients_are_the_library_s(name, pixels_at_a_time, monkeypatch):
    monkeypatch.setattr(convolution, '_PIXELS_AT_A_TIME', pixels_at_a_time)
    wants = values_and_gradients(library, name)
    for got, want in zip(values_and_gradients(ours, name), wants, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', ['depthwise, stride', 'many channels', 'many channels, stride'])
def test_gradient_of_a_gradient(name):
    _, stride, padding, _, _, groups, _, _ = CASES[name]
    images, kernel = drawn(name)

    def run(images, kernel):
        y = ours(images, kernel, (stride, stride), padding, feature_group_count=groups)
        return jnp.sum(jnp.sin(y))

    with jax.enable_x64(True):
        arguments = images.astype(jnp.float64), kernel.astype(jnp.float64)
        check_grads(jax.jit(run), arguments, order=2, modes=['rev'])


def test_bfloat16_gradients_are_summed_in_float32():
    kernel = jnp.zeros((1, 1, 16, 1), jnp.bfloat16)
    images = jnp.ones((6, 8, 8, 16), jnp.bfloat16).at[0, 0, 0].set(256.0)

    def total(kernel):
        return ours(images, kernel, (1, 1), 'SAME').astype(jnp.float32).sum()

    gradient = jax.jit(jax.grad(total))(kernel)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient.astype(jnp.float32), 640)  # 639, rounded


@pytest.mark.parametrize('name', ['depthwise', 'grouped', 'larger than the map', 'many channels'])
def test_bfloat16(name):
    _, stride, padding, _, _, groups, _, _ = CASES[name]
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
    for name, (_, stride, padding, _, _, groups, _, _) in CASES.items():

        def run(images, kernel, strides=(stride, stride), padding=padding, groups=groups):
            return ours(images, kernel, strides, padding, feature_group_count=groups)

        text = jax.jit(run).lower(*drawn(name)).as_text()
        library = name in ('plain', 'one tap') or name.startswith('many channels')
        assert ('stablehlo.convolution' in text) == library, name


@pytest.mark.parametrize('name', ['plain', 'many channels', 'many channels, stride'])
def test_gradients_of_kernels_are_products(name):
    def run(images, kernel):
        return values_and_gradients(ours, name, images, kernel)

    text = jax.jit(run).lower(*drawn(name)).as_text()
    assert text.count('stablehlo.convolution') == 2


@pytest.mark.parametrize(
    ('images', 'pixels', 'parts'), [(16, 56 * 56, 8), (32, 9, 1), (7, 4096, 7), (7, 4095, 1)]
)
def test_images_at_a_time(images, pixels, parts):
    assert convolution._parts(images, pixels) == parts


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


@pytest.mark.eight_devices
@pytest.mark.parametrize('batch', [16, 12])
def test_devices_share_grouped_convolutions(batch, monkeypatch):
    """As accelerators do it: no device reads the images of another, and sums over the batch are whole."""
    monkeypatch.setattr(
        jax.lax, 'platform_dependent', lambda *args, cpu, default, **_: default(*args)
    )
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, 5, 4, 6)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 2, 9)).astype(np.float32)

    def loss(form, images, kernel):
        made = form(images, kernel, (1, 1), [(1, 1), (1, 1)], feature_group_count=3)
        return (jnp.sin(made) * jnp.arange(len(images))[:, None, None, None]).sum()

    def step(form):
        return jax.jit(jax.value_and_grad(functools.partial(loss, form), argnums=(0, 1)))

    mesh = sharding.make_mesh(fsdp=2)
    whole = jax.device_put(kernel, sharding.replicated(mesh))
    if batch % mesh.size:
        rows = jax.device_put(images, sharding.replicated(mesh))
    else:
        rows = jax.device_put(images, sharding.batch_sharding(mesh))
        text = step(ours).lower(rows, whole).compile().as_text()
        assert 'all-reduce' in text
        assert 'all-gather' not in text
    expected = step(library)(images, kernel)
    for got, want in zip(
        jax.tree.leaves(step(ours)(rows, whole)), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
