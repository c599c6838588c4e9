import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax.losses import queues

SIZE = 5
push = jax.jit(queues.push)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=6))
def test_it_keeps_the_newest_features_that_count(batches):
    queue, pushed = queues.empty_queue(SIZE, 1), []
    for step, where in enumerate(batches):
        values = np.arange(3) + 3 * step + 1
        features = jnp.asarray(np.where(where, values, np.nan)[:, None], jnp.float32)
        queue = push(queue, features, jnp.asarray(values), where=jnp.array(where))
        pushed += values[np.array(where)].tolist()
    newest = pushed[-SIZE:]
    assert sorted(queue.labels[queue.filled].tolist()) == sorted(newest)
    assert sorted(queue.features[queue.filled, 0].tolist()) == sorted(newest)
    assert int(queue.pointer) == len(pushed) % SIZE
    np.testing.assert_array_equal(queue.features[~queue.filled], 0)


def test_it_keeps_its_dtype_and_structure_and_stops_gradients():
    queue = queues.empty_queue(SIZE, 2, jnp.bfloat16)
    features, labels = jnp.ones([2, 2]), jnp.array([1, 2])
    after = push(queue, features, labels)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(
        lambda a: (a.shape, a.dtype), queue
    )
    gradient = jax.grad(lambda f: queues.push(queue, f, labels).features.sum().astype(float))
    np.testing.assert_array_equal(gradient(features), 0)


def test_the_batch_may_be_sharded():
    mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
    batch = jnp.arange(16.0).reshape(8, 2), jnp.arange(8)
    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec('data')))
    queue = queues.empty_queue(12, 2)._replace(pointer=jnp.array(7, jnp.int32))
    jax.tree.map(np.testing.assert_array_equal, push(queue, *sharded), push(queue, *batch))


def test_mistakes_are_named():
    queue = queues.empty_queue(SIZE, 2)
    with pytest.raises(ValueError, match='features must not be more than the 5 slots'):
        queues.push(queue, jnp.ones([6, 2]), jnp.ones(6, jnp.int32))
    with pytest.raises(ValueError, match='features must have shape'):
        queues.push(queue, jnp.ones([2, 3]), jnp.ones(2, jnp.int32))
    with pytest.raises(ValueError, match='labels must have shape'):
        queues.push(queue, jnp.ones([2, 2]), jnp.ones(3, jnp.int32))
    with pytest.raises(ValueError, match='where must have shape'):
        queues.push(queue, jnp.ones([2, 2]), jnp.ones(2, jnp.int32), where=jnp.ones(3, bool))
