import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import draws
from ltjax.losses import centroids

BATCH, CLASSES, WIDTH = 8, 4, 3
BEFORE = draws.normal(0, CLASSES, WIDTH)
EMBEDDINGS = draws.normal(1, BATCH, WIDTH)
LABELS = jnp.array([2, 0, 2, 2, 0, 1, 2, 0])
RULES = ('sequential', 'mean', 'sum', 'printed')
each_rule = pytest.mark.parametrize('rule', RULES)


def updated(*arguments, rule='sequential', momentum=0.9, **options):
    update = functools.partial(centroids.update_centroids, rule=rule, momentum=momentum)
    return jax.jit(update)(*arguments, **options)


def test_the_default_is_one_average_a_sample_in_batch_order():
    want = np.array(BEFORE)
    for embedding, label in zip(EMBEDDINGS, LABELS, strict=True):
        want[label] = 0.9 * want[label] + 0.1 * np.asarray(embedding)
    np.testing.assert_allclose(updated(BEFORE, EMBEDDINGS, LABELS), want, rtol=1e-5)


@each_rule
def test_an_absent_class_stays_unless_as_printed(rule):
    after = updated(BEFORE, EMBEDDINGS, LABELS, rule=rule)
    np.testing.assert_allclose(after[3], BEFORE[3] * (0.9 if rule == 'printed' else 1), rtol=1e-6)


@each_rule
def test_one_sample_a_class_is_the_same_by_every_rule(rule):
    labels = jnp.arange(CLASSES)
    after = updated(BEFORE, EMBEDDINGS[:CLASSES], labels, rule=rule)
    np.testing.assert_allclose(after, 0.9 * BEFORE + 0.1 * EMBEDDINGS[:CLASSES], rtol=1e-5)


@each_rule
def test_masked_embeddings_have_no_part_in_it(rule):
    where = jnp.arange(BATCH) % 3 > 0
    dirty = jnp.where(where[:, None], EMBEDDINGS, jnp.nan), jnp.where(where, LABELS, -1)
    got = updated(BEFORE, *dirty, rule=rule, where=where)
    want = updated(BEFORE, EMBEDDINGS[where], LABELS[where], rule=rule)
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize(('momentum', 'want'), [(0.0, EMBEDDINGS[-1]), (1.0, BEFORE[0])])
def test_limits_of_the_momentum(momentum, want):
    after = updated(BEFORE, EMBEDDINGS, LABELS, momentum=momentum)
    np.testing.assert_allclose(after[0], want, rtol=1e-6)


def test_they_keep_their_dtype_and_stop_gradients():
    after = updated(BEFORE.astype(jnp.bfloat16), EMBEDDINGS, LABELS)
    assert after.dtype == jnp.bfloat16
    gradient = jax.grad(lambda z: updated(BEFORE, z, LABELS).sum())(EMBEDDINGS)
    np.testing.assert_array_equal(gradient, 0)


def test_same_centroids_on_eight_devices():
    mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
    sharded = jax.device_put((EMBEDDINGS, LABELS), NamedSharding(mesh, PartitionSpec('data')))
    np.testing.assert_allclose(
        updated(BEFORE, *sharded), updated(BEFORE, EMBEDDINGS, LABELS), rtol=1e-5
    )


def test_centroids_are_constants_of_the_loss():
    def loss(centres):
        return centroids.centroid_contrastive(EMBEDDINGS, LABELS, centroids=centres).sum()

    np.testing.assert_array_equal(jax.grad(loss)(BEFORE), 0)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match='rule must be'):
        updated(BEFORE, EMBEDDINGS, LABELS, rule='median')
    with pytest.raises(ValueError, match='embeddings must have shape'):
        updated(BEFORE, EMBEDDINGS[:, 1:], LABELS)
    with pytest.raises(ValueError, match='temperature must be positive'):
        centroids.centroid_logits(EMBEDDINGS, BEFORE, temperature=0.0)
    with pytest.raises(ValueError, match='centroids must have shape'):
        centroids.centroid_logits(EMBEDDINGS, BEFORE[:, 1:])
