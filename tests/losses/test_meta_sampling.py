import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import draws
from ltjax.losses import classification, meta_sampling, samplers

pytestmark = pytest.mark.slow

LABELS = jnp.array([0, 0, 0, 1, 1, 2])
INPUTS = draws.normal(0, 6, 4)
BALANCED = draws.normal(1, 3, 4), jnp.arange(3)
KERNEL = draws.normal(2, 4, 3)
UNIFORM = draws.uniform(3, 5, 6)
cross_entropy = classification.softmax_cross_entropy
counts_with_images = st.lists(st.integers(0, 10**6), min_size=1, max_size=12).filter(any)


def apply(kernel, inputs):
    return inputs @ kernel


def meta_loss(psi, uniform=UNIFORM, **options):
    return meta_sampling.meta_sampler_loss(
        psi, apply, KERNEL, (INPUTS, LABELS), BALANCED, uniform, **options
    ).mean()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(counts=counts_with_images, power=st.floats(0, 2))
def test_the_start_favours_smaller_classes_symmetrically_about_one_half(counts, power):
    probabilities = meta_sampling.meta_sampler_probabilities(counts, power=power)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    np.testing.assert_allclose(probabilities.min() + probabilities.max(), 1, rtol=1e-9)
    assert (np.diff(probabilities[np.argsort(counts)]) <= 0).all()
    logits = meta_sampling.meta_sampler_logits(counts, power=power)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), probabilities, rtol=1e-9)


def test_power_zero_draws_every_image_alike():
    np.testing.assert_array_equal(meta_sampling.meta_sampler_logits([9, 5, 1], power=0.0), 0)
    uniform = draws.uniform(0, 6000, 6)
    indices, _ = meta_sampling.meta_sample(jnp.zeros(3), LABELS, uniform)
    np.testing.assert_allclose(np.bincount(indices, minlength=6) / 6000, 1 / 6, atol=0.02)


def test_draws_follow_the_sigmoid_of_the_logits():
    psi = jnp.array([-2.0, 0.0, 3.0])
    uniform = draws.uniform(0, 6000, 6)
    indices, weights = jax.jit(meta_sampling.meta_sample)(psi, LABELS, uniform)
    want = np.asarray(jax.nn.sigmoid(psi))[LABELS]
    np.testing.assert_allclose(np.bincount(indices) / 6000, want / want.sum(), atol=0.02)
    np.testing.assert_array_equal(weights, 1)


def test_draws_survive_rounded_numbers_and_extreme_logits():
    uniform = jnp.array([[0.0, 1.0, 0.5], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    for psi in (jnp.zeros(3), jnp.array([-1e4, 0.0, 1e4]), jnp.full(3, -1e4)):

        def total(psi):
            return meta_sampling.meta_sample(psi, jnp.arange(3), uniform).weights.sum()

        assert np.isfinite(jax.grad(total)(psi)).all()


def test_the_weight_has_the_gradient_of_the_probability_drawn():
    psi = jnp.array([0.5, -0.5])
    labels, uniform = jnp.array([0, 1]), jnp.array([[0.6, 0.3]])
    gradient = jax.grad(lambda psi: meta_sampling.meta_sample(psi, labels, uniform).weights[0])(psi)
    assert gradient[0] > 0 > gradient[1], 'the class drawn becomes likelier'

    def probability(psi):
        return jax.nn.softmax(jax.nn.log_sigmoid(psi) - jnp.log(-jnp.log(uniform[0])))[0]

    np.testing.assert_allclose(gradient, jax.grad(probability)(psi), rtol=1e-5)


def test_the_inner_step_is_gradient_descent_and_differentiable():
    params = {'w': jnp.array([1.0, 2.0]), 'b': jnp.array(3.0)}

    def after(scale):
        def loss(params):
            return scale * (params['w'] ** 2).sum() + params['b']

        return meta_sampling.inner_step(loss, params, 0.1)

    np.testing.assert_allclose(after(1.0)['w'], [0.8, 1.6], rtol=1e-6)
    np.testing.assert_allclose(after(1.0)['b'], 2.9, rtol=1e-6)
    np.testing.assert_allclose(jax.jacobian(after)(1.0)['w'], [-0.2, -0.4], rtol=1e-6)


def test_without_a_step_the_meta_loss_is_the_cross_entropy():
    psi = jnp.array([0.1, 0.2, 0.3])
    value, gradient = jax.jit(jax.value_and_grad(functools.partial(meta_loss, learning_rate=0.0)))(
        psi
    )
    want = cross_entropy(apply(KERNEL, BALANCED[0]), BALANCED[1]).mean()
    np.testing.assert_allclose(value, want, rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0)


def test_the_gradient_to_the_sampler_is_that_of_weights_on_the_draws():
    psi = jnp.array([0.4, -0.3, 0.2])
    log_prior = samplers.log_prior([3, 2, 1])
    balanced_softmax = functools.partial(classification.logit_adjusted, log_prior=log_prior)
    got = jax.jit(jax.grad(functools.partial(meta_loss, inner_loss=balanced_softmax)))(psi)
    indices, _ = meta_sampling.meta_sample(psi, LABELS, UNIFORM)

    def by_weights(weights):
        def inner(kernel):
            return (weights * balanced_softmax(INPUTS[indices] @ kernel, LABELS[indices])).mean()

        moved = KERNEL - 0.1 * jax.grad(inner)(KERNEL)
        return cross_entropy(BALANCED[0] @ moved, BALANCED[1]).mean()

    slopes = jax.jit(jax.grad(by_weights))(jnp.ones(5))
    jacobian = jax.jacobian(lambda p: meta_sampling.meta_sample(p, LABELS, UNIFORM).weights)(psi)
    np.testing.assert_allclose(got, slopes @ jacobian, rtol=1e-4, atol=1e-7)
    assert np.abs(got).max() > 1e-4
