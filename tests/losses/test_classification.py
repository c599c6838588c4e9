import jax
import jax.numpy as jnp
import numpy as np
import pytest

import draws
from ltjax import losses
from ltjax.losses import classification

LOGITS, LABELS = jnp.zeros([2, 4]), jnp.array([0, 2])
COUNTS = [70, 20, 9, 0]


def test_logit_adjustment_gives_rarer_classes_a_larger_loss():
    log_prior = losses.log_prior([70, 20, 9, 1])
    adjusted = losses.logit_adjusted(LOGITS, LABELS, log_prior=log_prior)
    np.testing.assert_allclose(adjusted, -np.log([0.7, 0.09]), rtol=1e-5)


def test_a_class_without_images_is_adjusted_like_the_rarest():
    adjustment = classification.logit_adjustment(COUNTS)
    assert adjustment.dtype == np.float64
    np.testing.assert_allclose(adjustment, losses.log_prior(COUNTS), rtol=1e-9)
    assert adjustment[3] == adjustment[2]


def test_adjustment_at_tau_0_is_nothing():
    np.testing.assert_allclose(
        classification.logit_adjustment([70, 20, 9], tau=0.0), np.zeros(3), atol=1e-11
    )


def test_post_hoc_adjustment_undoes_the_one_in_training():
    logits = draws.normal(0, 2, 4)
    log_prior = classification.logit_adjustment(COUNTS)
    adjusted = classification.post_hoc_adjusted(logits, log_prior=log_prior)
    np.testing.assert_allclose(
        losses.logit_adjusted(adjusted, LABELS, log_prior=log_prior),
        losses.softmax_cross_entropy(logits, LABELS),
        rtol=1e-5,
    )


def test_class_arrays_of_another_length_are_refused():
    for adjust in (
        lambda **options: losses.logit_adjusted(LOGITS, LABELS, **options),
        lambda **options: classification.post_hoc_adjusted(LOGITS, **options),
    ):
        with pytest.raises(ValueError, match=r'log_prior must have shape \[4\]'):
            adjust(log_prior=np.zeros(3))


@pytest.mark.parametrize('options', [{'tau': -1.0}, {'epsilon': 0.0}])
def test_logit_adjustment_refuses_impossible_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        classification.logit_adjustment(COUNTS, **options)


@pytest.mark.parametrize('label_smoothing', [-0.1, 1.1])
def test_smoothing_outside_its_range_is_refused(label_smoothing):
    with pytest.raises(ValueError, match='label_smoothing'):
        losses.softmax_cross_entropy(LOGITS, LABELS, label_smoothing=label_smoothing)


def test_generalized_cross_entropy_tends_to_the_cross_entropy():
    logits = draws.normal(0, 2, 4)
    np.testing.assert_allclose(
        losses.generalized_cross_entropy(logits, LABELS, q=1e-6),
        losses.softmax_cross_entropy(logits, LABELS),
        rtol=1e-4,
    )


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
