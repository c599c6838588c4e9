"""Focal, sigmoid and asymmetric losses: what the cases do not say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import asymmetric, focal, sigmoid

pytestmark = pytest.mark.slow

LOGITS, LABELS = jnp.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]]), jnp.array([0, 2])


def test_weights_change_the_focusing_factor():
    weights = np.array([0.5, 1.0, 3.0])
    losses = -jax.nn.log_softmax(LOGITS)[jnp.arange(2), LABELS] * jnp.array([0.5, 3.0])
    np.testing.assert_allclose(
        focal.softmax_focal(LOGITS, LABELS, gamma=1.5, class_weights=weights),
        (1 - jnp.exp(-losses)) ** 1.5 * losses,
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match=r'class_weights must have shape \[3\]'):
        focal.softmax_focal(LOGITS, LABELS, class_weights=np.ones(2))


@pytest.mark.parametrize('gamma', [0.0, 0.3, 1.0, 2.0])
def test_a_focusing_factor_has_finite_gradients_where_p_is_0_or_1(gamma):
    log_p = jnp.array([0.0, -1e-38, -1e-7, -1e-3, -1.0, -1e4])
    factor, pullback = jax.vjp(lambda v: focal.focusing_factor(v, gamma) * v, log_p)
    assert np.isfinite(factor).all()
    assert np.isfinite(pullback(jnp.ones(6))[0]).all()


def test_a_confident_mistake_costs_what_its_logit_says():
    logits = jnp.array([[-1e4, 0.0]])
    for loss in (sigmoid.sigmoid_focal, focal.softmax_focal, sigmoid.sigmoid_cross_entropy):
        np.testing.assert_allclose(loss(logits, jnp.array([0])), 1e4, rtol=1e-3)


def test_binary_cross_entropy_of_a_certain_softmax():
    # log(1 - p_y) comes from the other classes: 1 - p rounds to 0 here.
    logits = jnp.array([[40.0, 0.0, 0.0]])
    value, gradient = jax.value_and_grad(
        lambda z: sigmoid.softmax_binary_cross_entropy(z, jnp.array([1])).sum()
    )(logits)
    np.testing.assert_allclose(value, 40 + (40 - np.log(2)), rtol=1e-5)
    np.testing.assert_allclose(gradient, [[2, -1.5, -0.5]], atol=1e-5)


def test_easy_negatives_count_nothing():
    logits, none = jnp.array([[-4.0, -3.0]]), jnp.zeros([1, 2])
    for loss in (asymmetric.asymmetric_multi_label, asymmetric.alpa):
        value, gradient = jax.value_and_grad(lambda z, loss=loss: loss(z, none).sum())(logits)
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)
        assert loss(logits, none, clip=0.0)[0] > 0


def test_versions_of_alpa_differ_as_they_say():
    at = {
        name: asymmetric.alpa(LOGITS, LABELS, **o) for name, o in asymmetric.ALPA_VERSIONS.items()
    }
    np.testing.assert_array_equal(at['v2'], asymmetric.alpa(LOGITS, LABELS))
    assert len({float(values[0]) for values in at.values()}) == 3


def test_the_hill_factor_falls_with_the_probability_of_negatives():
    options = dict(asymmetric.ALPA_VERSIONS['v3'])
    logits, negatives = jnp.array([[0.0], [2.0]]), jnp.zeros([2, 1])
    got = asymmetric.alpa(logits, negatives, **options)
    plain = asymmetric.alpa(logits, negatives, **(options | {'hill': None}))
    np.testing.assert_allclose(got / plain, 1.5 - jax.nn.sigmoid(logits[:, 0]), rtol=1e-5)


def test_pade_coefficients_approximate_the_logarithm():
    def approximant(name, x):
        a0, a1, b1, c0, c1, d1 = asymmetric.PADE_COEFFICIENTS[name]
        positive, negative = (a0 + a1 * x) / (1 + b1 * x), (c0 + c1 * x) / (1 + d1 * x)
        return np.array([positive, negative])

    for x in (0.99, 1.0, 1.01):
        np.testing.assert_allclose(approximant('pade', x), np.log(x), atol=1e-6)
    # As printed they agree in the value at 1 alone, or in value and slope.
    np.testing.assert_array_equal(approximant('printed', 1.0), 0)
    slopes = (approximant('printed', 1.01) - approximant('printed', 1.0)) / 0.01
    np.testing.assert_allclose(slopes, [1.5, 1.0])


def test_wrong_options_are_refused():
    for loss in (focal.softmax_focal, sigmoid.sigmoid_focal):
        with pytest.raises(ValueError, match='gamma'):
            loss(LOGITS, LABELS, gamma=-1.0)
    for loss in (
        asymmetric.asymmetric_multi_label,
        asymmetric.asymmetric_single_label,
        asymmetric.alpa,
    ):
        for name in ('gamma_pos', 'gamma_neg'):
            with pytest.raises(ValueError, match=name):
                loss(LOGITS, LABELS, **{name: -1.0})
    for loss in (asymmetric.asymmetric_multi_label, asymmetric.alpa):
        with pytest.raises(ValueError, match='clip'):
            loss(LOGITS, LABELS, clip=1.0)
    with pytest.raises(ValueError, match='label_smoothing'):
        asymmetric.asymmetric_single_label(LOGITS, LABELS, label_smoothing=2.0)
    for prior in (0.0, 1.0):
        with pytest.raises(ValueError, match='prior'):
            sigmoid.sigmoid_bias_init(prior)


def test_the_initial_bias_has_the_prior_as_its_sigmoid():
    np.testing.assert_allclose(jax.nn.sigmoid(sigmoid.sigmoid_bias_init(0.01)), 0.01, rtol=1e-5)
