import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import draws
from ltjax.losses import heads

pytestmark = pytest.mark.slow

BATCH, WIDTH, CLASSES = 5, 6, 4
FEATURES = draws.normal(0, BATCH, WIDTH)
WEIGHT = draws.normal(1, CLASSES, WIDTH)
BIAS = jnp.arange(CLASSES, dtype=jnp.float32)


def test_cosine_logits_do_not_depend_on_lengths():
    want = heads.cosine_logits(FEATURES, WEIGHT, scale=30.0)
    assert np.abs(want).max() <= 30
    longer = heads.cosine_logits(7 * FEATURES, 0.01 * WEIGHT, scale=30.0)
    np.testing.assert_allclose(longer, want, rtol=1e-5, atol=1e-5)
    itself = heads.cosine_logits(WEIGHT, WEIGHT)
    np.testing.assert_allclose(jnp.diag(itself), 1, rtol=1e-6)


def test_lengths_below_eps_are_divided_by_eps():
    np.testing.assert_allclose(heads.unit_vectors(jnp.array([[3.0, 4.0]]), eps=10.0), [[0.3, 0.4]])


@pytest.mark.parametrize('head', [heads.cosine_logits, heads.normalised_linear])
def test_features_and_weights_of_zeros_have_logits_0_and_finite_gradients(head):
    features = FEATURES.at[1].set(0)
    logits, pullback = jax.vjp(jax.jit(head), features, WEIGHT.at[2].set(0))
    np.testing.assert_array_equal(logits[1], 0)
    np.testing.assert_array_equal(logits[:, 2], 0)
    gradients = pullback(jnp.ones_like(logits))
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    if head is heads.cosine_logits:
        np.testing.assert_array_equal(gradients[0][1], 0)


def test_normalised_linear_limits():
    cosine = heads.cosine_logits(FEATURES, WEIGHT, scale=20.0)
    np.testing.assert_allclose(heads.normalised_linear(FEATURES, WEIGHT), cosine, rtol=1e-4)
    plain = heads.normalised_linear(FEATURES, WEIGHT, temperature=1.0, power=0.0, eps=0.0)
    np.testing.assert_allclose(plain, heads.linear_logits(FEATURES, WEIGHT), rtol=1e-5)


@pytest.mark.parametrize(
    'head', [heads.cosine_logits, heads.normalised_linear, heads.linear_logits]
)
def test_gradients_agree_with_finite_differences(head):
    with jax.enable_x64(True):
        arguments = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), float), (FEATURES, WEIGHT))
        check_grads(jax.jit(head), arguments, order=1, modes=['rev'])


def test_tau_moves_from_the_trained_weights_to_equal_lengths():
    np.testing.assert_array_equal(heads.tau_normalised(WEIGHT, tau=0.0), WEIGHT)
    np.testing.assert_allclose(heads.lengths(heads.tau_normalised(WEIGHT, tau=1.0)), 1, rtol=1e-6)
    half = heads.lengths(heads.tau_normalised(WEIGHT, tau=0.5))
    np.testing.assert_allclose(half, jnp.sqrt(heads.lengths(WEIGHT)), rtol=1e-6)
    zeros = heads.tau_normalised(WEIGHT.at[0].set(0), tau=2.0)
    np.testing.assert_array_equal(zeros[0], 0)


def test_learnable_scaling_of_one_changes_nothing_and_scales_the_bias_too():
    logits = heads.linear_logits(FEATURES, WEIGHT, BIAS)
    np.testing.assert_array_equal(heads.learnable_scaling(logits, jnp.ones(CLASSES)), logits)
    scales = jnp.array([1.0, 2.0, 0.5, 0.0])
    want = heads.linear_logits(FEATURES, WEIGHT * scales[:, None], BIAS * scales)
    np.testing.assert_allclose(heads.learnable_scaling(logits, scales), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('transform', ['un', 'l2n', 'cl2n'])
@pytest.mark.parametrize('metric', ['l2', 'cos'])
def test_nearest_means_find_well_separated_classes(transform, metric):
    labels = jnp.repeat(jnp.arange(3), 4)
    centres = 10 * jnp.eye(3, WIDTH)
    features = centres[labels] + 0.1 * draws.normal(2, 12, WIDTH)
    fit = jax.jit(heads.nearest_means, static_argnums=2, static_argnames='transform')
    means = fit(features, labels, 3, transform=transform)
    logits = heads.nearest_mean_logits(features, means, transform=transform, metric=metric)
    np.testing.assert_array_equal(logits.argmax(axis=1), labels)


def test_nearest_means_are_of_the_features_that_count():
    labels, where = jnp.array([0, 1, 1, 0, -1]), jnp.array([True, True, True, False, False])
    features = FEATURES.at[3:].set(jnp.nan)
    means = heads.nearest_means(features, labels, CLASSES, transform='un', where=where)
    np.testing.assert_allclose(means.mean, FEATURES[:3].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(means.centroids[0], FEATURES[0], rtol=1e-6)
    np.testing.assert_allclose(means.centroids[1], FEATURES[1:3].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(means.centroids[2:], 0)
    for transform in ('l2n', 'cl2n'):
        kept = heads.nearest_means(FEATURES[:3], labels[:3], CLASSES, transform=transform)
        masked = heads.nearest_means(features, labels, CLASSES, transform=transform, where=where)
        np.testing.assert_allclose(masked.centroids, kept.centroids, rtol=1e-5, atol=1e-7)


def test_bfloat16_is_computed_in_float32():
    assert heads.linear_logits(FEATURES.astype(jnp.bfloat16), WEIGHT).dtype == jnp.float32
    assert heads.tau_normalised(WEIGHT.astype(jnp.bfloat16)).dtype == jnp.float32


def test_mistakes_are_named():
    means = heads.nearest_means(FEATURES, jnp.zeros(BATCH, int), 1)
    with pytest.raises(ValueError, match='weight must have shape'):
        heads.linear_logits(FEATURES, WEIGHT.T)
    with pytest.raises(ValueError, match='bias must have shape'):
        heads.linear_logits(FEATURES, WEIGHT, BIAS[1:])
    with pytest.raises(ValueError, match='scales must have shape'):
        heads.learnable_scaling(FEATURES, BIAS)
    with pytest.raises(ValueError, match='features must be floating'):
        heads.linear_logits(FEATURES.astype(int), WEIGHT)
    with pytest.raises(ValueError, match="transform must be one of .*, got 'l2'"):
        heads.nearest_means(FEATURES, jnp.zeros(BATCH, int), 1, transform='l2')
    with pytest.raises(ValueError, match="metric must be 'l2' or 'cos', got 'dot'"):
        heads.nearest_mean_logits(FEATURES, means, metric='dot')
