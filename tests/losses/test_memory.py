import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import draws
from ltjax.losses import heads, memory, reduce

pytestmark = pytest.mark.slow

BATCH, WIDTH, CLASSES = 6, 5, 4
FEATURES = draws.normal(0, BATCH, WIDTH)
CENTROIDS = draws.normal(1, CLASSES, WIDTH)
WEIGHT = draws.normal(2, CLASSES, WIDTH)
LABELS = jnp.array([0, 1, 1, 3, 0, 0])
LAYERS = memory.MemoryLayers(
    draws.normal(3, CLASSES, WIDTH),
    draws.normal(4, CLASSES),
    draws.normal(5, WIDTH, WIDTH),
    jnp.ones(WIDTH),
)
CLOSED = LAYERS._replace(selector_weight=jnp.zeros((WIDTH, WIDTH)), selector_bias=jnp.zeros(WIDTH))


def test_a_closed_selector_only_rescales_the_features():
    embedding = memory.memory_embedding(FEATURES, CENTROIDS, CLOSED)
    np.testing.assert_allclose(
        heads.unit_vectors(embedding), heads.unit_vectors(FEATURES), rtol=1e-5, atol=1e-6
    )
    nearest = np.linalg.norm(FEATURES[:, None, :] - CENTROIDS[None, :, :], axis=2).min(axis=1)
    np.testing.assert_allclose(
        heads.lengths(embedding)[:, 0], 10 / nearest * heads.lengths(FEATURES)[:, 0], rtol=1e-5
    )


def test_a_feature_on_a_centroid_is_finite():
    def total(features):
        embedding = memory.memory_embedding(features, CENTROIDS, LAYERS)
        return memory.squashed_cosine_logits(embedding, WEIGHT).sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(CENTROIDS)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_gradients_of_the_head_agree_with_finite_differences():
    def logits(features, weight):
        embedding = memory.memory_embedding(features, CENTROIDS, LAYERS)
        return memory.squashed_cosine_logits(embedding, weight)

    with jax.enable_x64(True):
        arguments = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), float), (FEATURES, WEIGHT))
        check_grads(jax.jit(logits), arguments, order=1, modes=['rev'])


def test_long_embeddings_have_cosine_logits_and_short_ones_small_logits():
    cosine = heads.cosine_logits(FEATURES, WEIGHT, scale=16.0)
    far = memory.squashed_cosine_logits(1e6 * FEATURES, WEIGHT)
    np.testing.assert_allclose(far, cosine, rtol=1e-4, atol=1e-4)
    near = memory.squashed_cosine_logits(1e-6 * FEATURES, WEIGHT)
    assert np.abs(near).max() < 1e-3


def test_centroids_move_by_the_mean_rule_when_nothing_repels():
    def loss(centroids):
        values = memory.centroid_loss(FEATURES, LABELS, centroids=centroids, margin=0.0)
        return reduce.mean(values)

    gradient = jax.jit(jax.grad(loss))(CENTROIDS)
    for k in range(CLASSES):
        own = FEATURES[np.flatnonzero(np.asarray(LABELS) == k)]
        want = (CENTROIDS[k][None, :] - own).sum(axis=0) / (1 + len(own)) / BATCH
        np.testing.assert_allclose(gradient[k], want, rtol=1e-5, atol=1e-6)


def test_centroids_are_repelled_by_the_derivative():
    def loss(centroids, margin):
        values = memory.centroid_loss(FEATURES, LABELS, centroids=centroids, margin=margin)
        return reduce.mean(values)

    def repulsion(centroids):
        others = jnp.arange(CLASSES)[None, :] != LABELS[:, None]
        squared = jnp.square(FEATURES[:, None, :] - centroids[None, :, :]).sum(axis=2)
        return -0.01 * (others * squared).sum() / (BATCH * CLASSES)

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    repelled = gradient(CENTROIDS, 1e3) - gradient(CENTROIDS, 0.0)
    np.testing.assert_allclose(repelled, jax.grad(repulsion)(CENTROIDS), rtol=1e-4, atol=1e-6)


def test_masked_examples_move_no_centroid():
    where = jnp.arange(BATCH) < 4
    features = FEATURES.at[4:].set(jnp.nan)

    def loss(centroids, features, labels, where):
        values = memory.centroid_loss(features, labels, centroids=centroids, where=where)
        return reduce.mean(values, where)

    compiled = jax.jit(jax.value_and_grad(loss))
    got = compiled(CENTROIDS, features, LABELS.at[4:].set(-1), where)
    want = compiled(CENTROIDS, FEATURES[:4], LABELS[:4], None)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match='centroids must have shape'):
        memory.memory_embedding(FEATURES, CENTROIDS.T, LAYERS)
    with pytest.raises(ValueError, match='centroids must have shape'):
        memory.centroid_loss(FEATURES, LABELS, centroids=CENTROIDS.T)
