"""Batch normalisation: PyTorch's semantics, functional use, and the global batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from ltjax.models import classifier, layers
from ltjax.models.resnet import BasicBlock
from ltjax.models.resnet_cifar import CosineClassifier


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(3.0, 2.0, shape).astype(np.float32)


def test_training_uses_biased_and_stores_unbiased_variance():
    x = draw((4, 3, 2, 5))
    norm = layers.BatchNorm(5)
    norm.scale[...] = jnp.arange(1.0, 6.0)
    norm.bias[...] = jnp.full(5, 0.5)
    y = norm(jnp.asarray(x))
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = (x - mean) / np.sqrt(variance + 1e-5) * np.arange(1, 6) + 0.5
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * variance * 24 / 23, rtol=1e-5)


def test_evaluation_uses_running_statistics_and_keeps_them():
    norm = layers.BatchNorm(2)
    norm.eval()
    norm.mean[...] = jnp.array([1.0, 2.0])
    norm.var[...] = jnp.array([4.0, 9.0])
    x = draw((3, 2))
    np.testing.assert_allclose(norm(jnp.asarray(x)), (x - [1, 2]) / [2, 3], atol=1e-5)
    np.testing.assert_array_equal(norm.mean[...], [1, 2])
    np.testing.assert_array_equal(norm.var[...], [4, 9])


def test_variance_survives_a_large_mean():
    x = 1000 + draw((64, 1)) * 0.01
    y = layers.BatchNorm(1)(jnp.asarray(x))
    expected = (x - x.mean(dtype=np.float64)) / np.sqrt(x.var(dtype=np.float64) + 1e-5)
    np.testing.assert_allclose(y, expected, atol=1e-2)


def test_one_value_per_channel_stays_finite():
    norm = layers.BatchNorm(3)
    y = norm(jnp.ones((1, 3)))
    np.testing.assert_array_equal(y, np.zeros((1, 3)))
    np.testing.assert_allclose(norm.var[...], [0.9, 0.9, 0.9], rtol=1e-6)


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float64])
def test_output_dtype(dtype):
    with jax.enable_x64(True):
        norm = layers.BatchNorm(3, dtype=dtype)
        assert norm(jnp.ones((2, 3), dtype)).dtype == dtype
        assert norm.mean[...].dtype == jnp.float32


class Net(nnx.Module):
    """A small part of a model."""

    def __init__(self, rngs):
        self.conv = layers.conv(2, 4, 3, rngs=rngs)
        self.bn = layers.BatchNorm(4)

    def __call__(self, x):
        return self.bn(self.conv(x))


def gradient_step(model):
    """Returns a jitted function of parameters, statistics and images, as a training step has it."""
    graphdef, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)

    @jax.jit
    def step(params, stats, x):
        def loss_fn(params):
            model = nnx.merge(graphdef, params, stats, copy=True)
            loss = jnp.mean(jnp.square(model(x) - 1.0))
            return loss, nnx.state(model, nnx.BatchStat)

        return jax.value_and_grad(loss_fn, has_aux=True)(params)

    return step, params, stats


def test_functional_step_returns_new_statistics_and_changes_nothing():
    model = Net(nnx.Rngs(0))
    step, params, stats = gradient_step(model)
    x = jnp.asarray(draw((2, 6, 6, 2)))
    (_, once), gradients = step(params, stats, x)
    (_, twice), _ = step(params, once, x)
    np.testing.assert_array_equal(model.bn.mean[...], np.zeros(4))

    model(x)
    np.testing.assert_allclose(once['bn']['mean'][...], model.bn.mean[...], rtol=1e-5)
    np.testing.assert_allclose(once['bn']['var'][...], model.bn.var[...], rtol=1e-5)
    batch_mean = 10 * np.asarray(once['bn']['mean'][...])
    np.testing.assert_allclose(twice['bn']['mean'][...], 0.19 * batch_mean, rtol=1e-4)
    assert np.abs(gradients['conv']['kernel'][...]).max() > 0
    assert jax.tree.structure(gradients) == jax.tree.structure(params)


def test_a_sharded_batch_is_normalised_as_one():
    step, params, stats = gradient_step(Net(nnx.Rngs(0)))
    # Eight very different images: statistics per device would be far off.
    x = draw((8, 4, 4, 2)) * np.arange(1, 9, dtype=np.float32)[:, None, None, None]
    single = step(params, stats, jnp.asarray(x))
    mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
    everywhere = NamedSharding(mesh, P())
    sharded = step(
        jax.device_put(params, everywhere),
        jax.device_put(stats, everywhere),
        jax.device_put(x, NamedSharding(mesh, P('data'))),
    )
    for got, want in zip(jax.tree.leaves(sharded), jax.tree.leaves(single), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_convolution_pads_both_sides():
    convolve = layers.conv(1, 1, 3, stride=2, rngs=nnx.Rngs(0))
    convolve.kernel[...] = jnp.ones((3, 3, 1, 1))
    y = convolve(jnp.ones((1, 4, 4, 1)))
    np.testing.assert_array_equal(y[0, :, :, 0], [[4, 6], [6, 9]])


def test_rematerialised_blocks_update_statistics_once_and_keep_the_numbers():
    rngs = nnx.Rngs(0)
    blocks = nnx.List(BasicBlock(4, 4, 4, stride=1, dtype=jnp.float32, rngs=rngs) for _ in range(2))
    graphdef, params, stats = nnx.split(blocks, nnx.Param, nnx.BatchStat)
    x = jnp.asarray(draw((2, 5, 5, 4)))

    def loss_fn(params, remat):
        blocks = nnx.merge(graphdef, params, stats, copy=True)
        y = classifier.run_blocks(blocks, x, remat=remat)
        return jnp.sum(jnp.square(y)), nnx.state(blocks, nnx.BatchStat)

    step = jax.jit(jax.value_and_grad(loss_fn, has_aux=True), static_argnums=1)
    for got, want in zip(
        jax.tree.leaves(step(params, True)), jax.tree.leaves(step(params, False)), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    assert 'remat' in str(jax.make_jaxpr(loss_fn, static_argnums=1)(params, True))
    assert 'remat' not in str(jax.make_jaxpr(loss_fn, static_argnums=1)(params, False))


def test_cosine_classifier():
    head = CosineClassifier(3, 2, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(np.linalg.norm(head.kernel[...], axis=0), 1, rtol=1e-6)
    x = draw((4, 3))
    kernel = 5 * np.asarray(head.kernel[...])
    head.kernel[...] = jnp.asarray(kernel)
    expected = x @ kernel / np.linalg.norm(x, axis=1, keepdims=True) / 5
    np.testing.assert_allclose(head(jnp.asarray(x)), expected, rtol=1e-5)
    gradient = jax.grad(lambda x: head(x).sum())(jnp.zeros((1, 3)))
    assert np.isfinite(gradient).all()
