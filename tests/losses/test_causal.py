import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import draws
from ltjax.losses import causal, heads

pytestmark = pytest.mark.slow

BATCH, WIDTH, CLASSES = 6, 8, 4
FEATURES = draws.normal(0, BATCH, WIDTH)
WEIGHT = draws.normal(1, CLASSES, WIDTH)
DIRECTION = draws.normal(2, WIDTH)


def test_one_head_without_gamma_is_the_cosine_classifier():
    logits = causal.deconfounded_logits(FEATURES, WEIGHT, num_heads=1, gamma=0.0)
    cosine = heads.cosine_logits(FEATURES, WEIGHT, scale=16.0)
    np.testing.assert_allclose(logits, cosine, rtol=1e-5, atol=1e-5)


def test_heads_are_normalised_by_themselves_and_averaged():
    logits = jax.jit(causal.deconfounded_logits, static_argnames='num_heads')
    first, second = (
        logits(FEATURES[:, half], WEIGHT[:, half], num_heads=1)
        for half in (slice(0, 4), slice(4, 8))
    )
    got = logits(FEATURES, WEIGHT, num_heads=2)
    np.testing.assert_allclose(got, (first + second) / 2, rtol=1e-5, atol=1e-5)


def test_gradients_agree_with_finite_differences():
    with jax.enable_x64(True):
        arguments = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), float), (FEATURES, WEIGHT))
        check_grads(jax.jit(causal.deconfounded_logits), arguments, order=1, modes=['rev'])


def test_zeros_have_finite_gradients():
    def total(features, weight):
        return causal.deconfounded_logits(features, weight, gamma=0.0).sum()

    gradients = jax.jit(jax.grad(total, (0, 1)))(jnp.zeros_like(FEATURES), jnp.zeros_like(WEIGHT))
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)


def test_nothing_is_subtracted_without_alpha_or_direction():
    training = causal.deconfounded_logits(FEATURES, WEIGHT)
    for direction, alpha in ((DIRECTION, 0.0), (jnp.zeros(WIDTH), 3.0)):
        logits = causal.total_direct_effect(FEATURES, WEIGHT, direction, alpha=alpha)
        np.testing.assert_allclose(logits, training, rtol=1e-5, atol=1e-5)


def test_all_of_the_direction_is_removed_with_alpha_1():
    along = jnp.outer(jnp.arange(1.0, BATCH + 1), DIRECTION)
    logits = causal.total_direct_effect(along, WEIGHT, 9 * DIRECTION, alpha=1.0)
    np.testing.assert_allclose(logits, 0, atol=1e-5)
    blind = causal.total_direct_effect(FEATURES, DIRECTION[None, :], DIRECTION, alpha=1.0)
    np.testing.assert_allclose(blind, 0, atol=1e-5)


def test_the_direction_follows_the_features_that_count_and_has_no_gradient():
    where = jnp.arange(BATCH) < 4
    features = FEATURES.at[4:].set(jnp.nan)
    got = causal.update_direction(DIRECTION, features, mu=0.5, where=where)
    want = 0.5 * DIRECTION + FEATURES[:4].mean(axis=0)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda x: causal.update_direction(DIRECTION, x).sum())(FEATURES)
    np.testing.assert_array_equal(gradient, 0)


def test_the_momentum_grows_to_1_as_the_learning_rate_falls():
    momenta = causal.direction_momentum(jnp.array([1.0, 0.02, 0.01, 0.0]), mu=0.8)
    np.testing.assert_allclose(momenta, [0.8, 0.8, 0.9, 1.0], rtol=1e-6)


@pytest.mark.parametrize('num_heads', [0, 3])
def test_heads_must_divide_the_width(num_heads):
    with pytest.raises(ValueError, match='num_heads must divide the width 8'):
        causal.deconfounded_logits(FEATURES, WEIGHT, num_heads=num_heads)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match='direction must have shape'):
        causal.total_direct_effect(FEATURES, WEIGHT, DIRECTION[1:])
    with pytest.raises(ValueError, match='weight must have shape'):
        causal.deconfounded_logits(FEATURES, WEIGHT.T)
