"""ConvNeXt's own parts: stochastic depth, rematerialisation, features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ltjax.models import create, set_chunks, set_key
from ltjax.models.convnext import Block, ConvNeXt

pytestmark = pytest.mark.slow


def images(batch=4):
    return jnp.asarray(np.random.default_rng(0).normal(size=(batch, 16, 16, 3)), jnp.float32)


def small(*, remat=False, **options):
    """Returns a network of two stages whose blocks matter from the start."""
    model = ConvNeXt((1, 2), (4, 8), num_classes=3, rngs=nnx.Rngs(0), **options)
    model.remat = remat
    for _, module in nnx.iter_modules(model):
        if isinstance(module, Block):
            module.layer_scale[...] = jnp.ones_like(module.layer_scale[...])
    return model


def step(model, key, *, chunks=1):
    """Returns features and gradients of a step that draws from `key`."""
    graphdef, parameters = nnx.split(model)

    @jax.jit
    def run(parameters, key):
        def loss_fn(parameters):
            model = nnx.merge(graphdef, parameters, copy=True)
            set_key(model, key)
            set_chunks(model, chunks)
            outputs = model(images())
            return jnp.sum(jnp.square(outputs.logits)), outputs.features

        return jax.grad(loss_fn, has_aux=True)(parameters)

    gradients, features = run(parameters, key)
    return features, gradients


def test_rates_rise_linearly_over_all_blocks():
    model = small(drop_path_rate=0.4)
    rates = [m.rate for _, m in nnx.iter_modules(model) if isinstance(m, nnx.Dropout)]
    np.testing.assert_allclose(sorted(rates), [0.0, 0.2, 0.4])


def test_a_branch_is_dropped_for_whole_images_and_kept_ones_grow():
    block = Block(4, drop_path=0.75, dtype=jnp.float32, rngs=nnx.Rngs(0))
    block.layer_scale[...] = jnp.ones(4)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(64, 2, 2, 4)), jnp.float32)
    block.eval()
    branch = np.asarray(block(x) - x)
    block.train()
    set_key(block, jax.random.key(0))
    drawn = np.asarray(block(x) - x)
    kept = np.abs(drawn).max(axis=(1, 2, 3)) > 0
    assert 4 <= kept.sum() <= 32
    np.testing.assert_allclose(drawn[kept], 4 * branch[kept], rtol=1e-4, atol=1e-5)
    again = np.abs(np.asarray(block(x) - x)).max(axis=(1, 2, 3)) > 0
    assert (again != kept).any()


def test_a_key_decides_and_none_is_kept():
    model = small(drop_path_rate=0.5)
    one, same, other = (step(model, jax.random.key(seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0
    assert {type(leaf) for _, leaf in nnx.to_flat_state(nnx.state(model))} == {nnx.Param}
    with pytest.raises(ValueError, match='rngs'):
        model(images())
    model.eval()
    one, other = (step(model, jax.random.key(seed))[0] for seed in (1, 2))
    np.testing.assert_array_equal(one, other)


def test_one_device_and_eight_drop_the_same():
    model = small(drop_path_rate=0.5)
    graphdef, parameters = nnx.split(model)

    def run(parameters, x):
        model = nnx.merge(graphdef, parameters, copy=True)
        set_key(model, jax.random.key(0))
        return model(x).features

    mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
    x = images(8)
    sharded = jax.jit(run)(parameters, jax.device_put(x, split))
    np.testing.assert_allclose(sharded, jax.jit(run)(parameters, x), rtol=1e-4, atol=1e-5)


def test_rematerialised_numbers_are_the_same():
    plain = step(small(drop_path_rate=0.5), jax.random.key(0))
    again = step(small(drop_path_rate=0.5, remat=True), jax.random.key(0))
    for got, want in zip(jax.tree.leaves(again), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def test_a_batch_in_parts_gives_the_same_numbers():
    whole = step(small(), jax.random.key(0))
    parts = step(small(), jax.random.key(0), chunks=2)
    for got, want in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def test_each_part_draws_its_own_branches():
    model = small(drop_path_rate=0.9)
    set_key(model, jax.random.key(1))
    set_chunks(model, 2)
    same = jnp.repeat(images(1), 64, axis=0)
    features = np.asarray(nnx.jit(lambda model, x: model.encode(x))(model, same))
    kept = np.abs(features - features[:1]).max(axis=1) > 1e-6
    assert (kept[::2] != kept[1::2]).any()


def test_parts_hold_less_memory_where_no_layer_needs_the_whole_batch():
    def memory(chunks):
        graphdef, parameters = nnx.split(small())

        def loss_fn(parameters, x):
            model = nnx.merge(graphdef, parameters, copy=True)
            set_chunks(model, chunks)
            return jnp.sum(jnp.square(model(x).logits))

        compiled = jax.jit(jax.grad(loss_fn)).lower(parameters, images(64)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(8) < memory(1) / 3


def test_batch_normalisation_by_the_batch_is_rematerialised_and_never_in_parts():
    for mode, expected in ((nnx.Module.train, (True, 1)), (nnx.Module.eval, (False, 2))):
        model = create('small_cnn', num_classes=3, rngs=nnx.Rngs(0))
        mode(model)
        set_chunks(model, 2)
        assert (model.remat, model.chunks) == expected


def test_features_are_normalised():
    model = small()
    model.eval()
    features = np.asarray(nnx.jit(lambda model, x: model.encode(x))(model, images()))
    np.testing.assert_allclose(features.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(features.std(axis=1), 1, atol=1e-2)
