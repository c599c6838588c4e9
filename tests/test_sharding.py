"""The mesh: how it is made, how the state lies on it, and work shared out by class."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from ltjax import losses, sharding
from ltjax.errors import UserError


def test_the_mesh_has_all_devices():
    assert dict(sharding.make_mesh().shape) == {'data': 8, 'fsdp': 1}
    assert dict(sharding.make_mesh(fsdp=4).shape) == {'data': 2, 'fsdp': 4}
    assert dict(sharding.make_mesh(data=1, fsdp=8).shape) == {'data': 1, 'fsdp': 8}


@pytest.mark.parametrize(
    ('data', 'fsdp', 'message'),
    [
        (-1, 3, r'mesh.fsdp is 3, which does not divide 8 devices: use one of 1, 2, 4, 8'),
        (-1, 0, 'mesh.fsdp is 0'),
        (3, 2, r'mesh.data 3 x mesh.fsdp 2 is not 8, the number of devices: use mesh.data=4'),
        (0, 1, 'use mesh.data=8'),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(data, fsdp, message):
    with pytest.raises(UserError, match=message):
        sharding.make_mesh(data=data, fsdp=fsdp)


@pytest.mark.parametrize(
    ('shape', 'spec'),
    [
        ((1024, 256), P('fsdp')),
        ((256, 1024), P(None, 'fsdp')),
        ((512, 512), P(None, 'fsdp')),
        ((3, 3, 255, 512), P(None, None, None, 'fsdp')),
        ((1023, 255), P()),
        ((64,), P()),
        ((), P()),
    ],
)
def test_the_longest_axis_that_divides_is_split(shape, spec):
    assert sharding.state_sharding(shape, sharding.make_mesh(fsdp=4)).spec == spec
    assert sharding.state_sharding(shape, sharding.make_mesh()).spec == P()


def test_a_large_state_takes_its_share_of_each_device():
    state = {'kernel': np.zeros((1024, 256), np.float32), 'bias': np.zeros(256, np.float32)}
    placed = sharding.place_state(state, sharding.make_mesh(fsdp=4))
    assert {shard.data.shape for shard in placed['kernel'].addressable_shards} == {(256, 256)}
    assert {shard.data.shape for shard in placed['bias'].addressable_shards} == {(256,)}


def test_one_process_has_all_rows():
    mesh = sharding.make_mesh()
    np.testing.assert_array_equal(sharding.process_rows(16, mesh), np.arange(16))
    batch = sharding.put_batch({'a': np.arange(16)}, mesh, 16)
    assert batch['a'].sharding.is_equivalent_to(sharding.batch_sharding(mesh), 1)
    np.testing.assert_array_equal(batch['a'], np.arange(16))


@pytest.mark.parametrize('num_classes', [1, 5, 8, 11])
def test_factors_are_the_same_whoever_makes_them(num_classes):
    rows = np.random.default_rng(0).normal(size=(num_classes, 12, 6)).astype(np.float32)
    covariance = np.einsum('knc,knd->kcd', rows, rows)
    alone = losses.cholesky_factors(covariance)
    mapped = jax.jit(sharding.map_classes(losses.cholesky_factors, sharding.make_mesh()))
    np.testing.assert_allclose(mapped(jnp.asarray(covariance)), alone, rtol=1e-5, atol=1e-6)


def test_classes_are_shared_out():
    shapes = []

    def watch(a, b):
        shapes.append(a.shape)
        return {'sum': a + b, 'row': a.sum(axis=1)}

    mapped = jax.jit(sharding.map_classes(watch, sharding.make_mesh()))
    a = jnp.arange(22.0).reshape(11, 2)
    found = mapped(a, 2 * a)
    assert set(shapes) == {(2, 2)}  # eleven classes over eight devices: two each
    np.testing.assert_array_equal(found['sum'], 3 * a)
    np.testing.assert_array_equal(found['row'], a.sum(axis=1))
    alone = functools.partial(watch)
    assert sharding.map_classes(alone, sharding.make_mesh(jax.devices()[:1])) is alone


@pytest.mark.parametrize(
    ('size', 'parts', 'use'), [(12, 1, 16), (24, 2, 32), (8, 2, 16), (100, 4, 96)]
)
def test_a_batch_that_cannot_be_shared_is_refused(size, parts, use):
    mesh = sharding.make_mesh()
    with pytest.raises(UserError, match=f'the batch size is {size}, .* use {use}'):
        sharding.check_batch_size(size, mesh, 'the batch size', parts=parts)
    sharding.check_batch_size(use, mesh, 'the batch size', parts=parts)


def test_no_part_of_a_batch_is_refused():
    with pytest.raises(UserError, match='accumulate is 0: use 1 or more'):
        sharding.check_batch_size(8, sharding.make_mesh(), 'the batch size', parts=0)


@pytest.mark.eight_devices
def test_an_array_is_split_over_the_mesh_of_what_it_was_made_from():
    seen = []

    def double(array):
        made = 2 * array
        seen.append(sharding.data_parts(made))
        return sharding.split_data(made, 1)

    array = np.arange(33.0, dtype=np.float32).reshape(3, 11)
    for mesh, parts in (
        (sharding.make_mesh(), 8),
        (sharding.make_mesh(fsdp=4), 2),
        (sharding.make_mesh(jax.devices()[:1]), 1),
    ):
        found = jax.jit(double)(sharding.replicate(array, mesh))
        assert seen.pop() == parts
        np.testing.assert_array_equal(found, 2 * array)
    even = jax.jit(double)(sharding.replicate(np.zeros((3, 16)), sharding.make_mesh()))
    assert {shard.data.shape for shard in even.addressable_shards} == {(3, 2)}
    assert sharding.data_parts(jnp.zeros(3)) == 1
    with pytest.raises(ValueError, match='mesh'):
        sharding.split_data(jnp.zeros((3, 3)), 0)
