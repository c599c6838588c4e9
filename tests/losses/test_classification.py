import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ltjax import losses

BATCH, CLASSES = 6, 4
LOGITS = jax.random.normal(jax.random.key(0), (BATCH, CLASSES)) * 2
LABELS = jnp.array([0, 1, 2, 3, 0, 2])
LOG_PRIOR = jnp.asarray(losses.log_prior([70, 20, 9, 0]), jnp.float32)

LOSSES = {
    'softmax_cross_entropy': losses.softmax_cross_entropy,
    'logit_adjusted': functools.partial(losses.logit_adjusted, log_prior=LOG_PRIOR),
    'generalized_cross_entropy': losses.generalized_cross_entropy,
}
each_loss = pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES.keys())


@each_loss
def test_gradient_agrees_with_finite_differences(loss):
    with jax.enable_x64(True):
        logits = jnp.asarray(np.asarray(LOGITS), jnp.float64)
        check_grads(jax.jit(lambda z: loss(z, LABELS)), (logits,), order=1, modes=['rev'])


@each_loss
def test_jit_and_vmap_give_the_same_values(loss):
    want = loss(LOGITS, LABELS)
    assert want.shape == (BATCH,)
    np.testing.assert_allclose(jax.jit(loss)(LOGITS, LABELS), want, rtol=1e-6)
    stacked = jax.vmap(loss)(LOGITS.reshape(2, 3, CLASSES), LABELS.reshape(2, 3))
    np.testing.assert_allclose(stacked.ravel(), want, rtol=1e-6)


@each_loss
def test_extreme_logits_are_finite_in_value_and_gradient(loss):
    logits = jnp.array([[1e4, -1e4, 0.0, 1e4], [1e4, -1e4, 0.0, 1e4]])
    labels = jnp.array([1, 0])
    value, gradient = jax.jit(jax.value_and_grad(lambda z: loss(z, labels).sum()))(logits)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@each_loss
def test_masked_examples_have_no_value_and_no_gradient(loss):
    where = jnp.arange(BATCH) < 4
    logits = LOGITS.at[4:].set(jnp.nan)
    labels = LABELS.at[4:].set(-1)
    values, pullback = jax.vjp(lambda z: loss(z, labels, where=where), logits)
    (gradient,) = pullback(jnp.ones(BATCH))
    np.testing.assert_allclose(values[:4], loss(LOGITS, LABELS)[:4], rtol=1e-6)
    np.testing.assert_array_equal(values[4:], 0)
    np.testing.assert_array_equal(gradient[4:], 0)
    assert np.isfinite(gradient).all()


@each_loss
def test_bfloat16_logits_give_float32_values(loss):
    values = loss(LOGITS.astype(jnp.bfloat16), LABELS)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, loss(LOGITS, LABELS), rtol=0.05, atol=0.02)


@each_loss
def test_a_batch_of_one(loss):
    np.testing.assert_allclose(loss(LOGITS[:1], LABELS[:1]), loss(LOGITS, LABELS)[:1], rtol=1e-6)


def test_logit_adjustment_limits():
    cross_entropy = losses.softmax_cross_entropy(LOGITS, LABELS)
    unadjusted = losses.logit_adjusted(LOGITS, LABELS, log_prior=LOG_PRIOR, tau=0.0)
    np.testing.assert_allclose(unadjusted, cross_entropy, rtol=1e-6)
    uniform = losses.logit_adjusted(LOGITS, LABELS, log_prior=jnp.full(CLASSES, -3.0))
    np.testing.assert_allclose(uniform, cross_entropy, rtol=1e-5)
    # Larger classes get a smaller loss, smaller ones a larger loss.
    adjusted = losses.logit_adjusted(jnp.zeros([2, 4]), jnp.array([0, 2]), log_prior=LOG_PRIOR)
    np.testing.assert_allclose(adjusted, -np.log([70 / 99, 9 / 99]), rtol=1e-5)


def test_generalized_cross_entropy_limits():
    p = jnp.take_along_axis(jax.nn.softmax(LOGITS), LABELS[:, None], axis=1)[:, 0]
    at = functools.partial(losses.generalized_cross_entropy, LOGITS, LABELS)
    np.testing.assert_allclose(at(q=1.0), 1 - p, rtol=1e-5)
    np.testing.assert_allclose(at(q=0.0), -jnp.log(p), rtol=1e-5)
    np.testing.assert_allclose(at(q=1e-6), -jnp.log(p), rtol=1e-4)
    np.testing.assert_allclose(at(q=0.7), (1 - p**0.7) / 0.7, rtol=1e-5)


def test_generalized_cross_entropy_is_flat_below_the_clamp():
    logits = jnp.array([[0.0, 20.0]])
    value, gradient = jax.value_and_grad(
        lambda z: losses.generalized_cross_entropy(z, jnp.array([0])).sum()
    )(logits)
    np.testing.assert_allclose(value, (1 - 1e-7**0.7) / 0.7, rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize('options', [{'q': -0.1}, {'clamp_min': 0.0}, {'clamp_min': 1.0}])
def test_generalized_cross_entropy_refuses_impossible_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        losses.generalized_cross_entropy(LOGITS, LABELS, **options)
