"""A class without training images: no count of 0 becomes NaN, and no class wins by its absence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses
from ltjax.losses import (
    class_probabilities,
    class_sharpness,
    classification,
    equalisation,
    gaussian,
    heads,
    margin,
    meta_sampling,
    mixing,
    samplers,
    sigmoid,
    translation,
)

pytestmark = pytest.mark.slow

COUNTS = [8, 0, 2]
LOGITS, LABELS = jnp.array([[1.0, 0.5, -1.0], [0.0, 0.0, 0.0]]), jnp.array([0, 2])

# What each function makes of COUNTS; worked out by hand.
VALUES = {
    'log_prior': (samplers.log_prior, {}, np.log([0.8, 0.2, 0.2])),
    'logit_adjustment': (classification.logit_adjustment, {}, np.log([0.8, 0.2, 0.2])),
    'logit_adjustment:squared': (
        classification.logit_adjustment,
        {'tau': 2.0},
        np.log([0.64, 0.04, 0.04]),
    ),
    'class_prior': (samplers.class_prior, {}, [0.8, 0, 0.2]),
    'effective_number': (losses.effective_number, {'beta': 0.5}, [1.9921875, 0, 1.5]),
    'effective_number_weights': (
        losses.effective_number_weights,
        {'beta': 0.5},
        np.array([1.5, 0, 1.9921875]) / 1.74609375,
    ),
    'inverse_frequency_weights': (losses.inverse_frequency_weights, {}, [0.4, 0, 1.6]),
    'negative_log_weights': (losses.negative_log_weights, {}, [1, 0, 1 + np.log(4)]),
    'deferred_weights': (losses.deferred_weights, {'epoch': 0}, [1, 0, 1]),
    'instance_balanced': (class_probabilities.instance_balanced, {}, [0.8, 0, 0.2]),
    'class_balanced': (class_probabilities.class_balanced, {}, [0.5, 0, 0.5]),
    'square_root': (class_probabilities.square_root, {}, [2 / 3, 0, 1 / 3]),
    'class_aware': (class_probabilities.class_aware, {'gamma': 0.5}, [1 / 3, 0, 2 / 3]),
    'inverse_frequency': (class_probabilities.inverse_frequency, {}, [0.2, 0, 0.8]),
    'bmix_cbrt': (
        class_probabilities.bmix_cbrt,
        {},
        np.array([4**0.875, 0, 1]) / (4**0.875 + 1),
    ),
    'progressively_balanced': (
        class_probabilities.progressively_balanced,
        {'epoch': 1, 'epochs': 3},
        [0.65, 0, 0.35],
    ),
    'effective_number_balanced': (
        class_probabilities.effective_number_balanced,
        {'beta': 0.0},
        [0.8, 0, 0.2],
    ),
    'gcl_balanced': (
        class_probabilities.gcl_balanced,
        {'beta': 0.0, 'spread': 0.0},
        [0.8, 0, 0.2],
    ),
    'deferred_resampling': (class_probabilities.deferred_resampling, {'epoch': 0}, [0.8, 0, 0.2]),
    'difficulty_aware': (
        class_probabilities.difficulty_aware,
        {'accuracy': [0.5, 0.0, 0.5]},
        [0.8, 0, 0.2],
    ),
    'ldam_margins': (margin.ldam_margins, {}, [0.5 / 2**0.5, 0.5, 0.5]),
    'vector_scales': (equalisation.vector_scales, {'gamma': 0.5}, [1, 0.5, 0.5]),
    'rare_classes': (equalisation.rare_classes, {'threshold': 0.2}, [0, 1, 1]),
    'smoothing_factors': (equalisation.smoothing_factors, {'head': 0.4}, [0.4, 0, 0]),
    'cloud_sizes': (margin.cloud_sizes, {}, [0, 1, 1]),
    'meta_sampler_probabilities': (
        meta_sampling.meta_sampler_probabilities,
        {'power': 1.0},
        [1 / 9, 8 / 9, 4 / 9],
    ),
    'meta_sampler_logits': (
        meta_sampling.meta_sampler_logits,
        {'power': 1.0},
        np.log([1 / 8, 8, 4 / 5]),
    ),
    'cc_sam_radii': (
        class_sharpness.cc_sam_radii,
        {'noise_ratio': 2**0.5},
        [7**-0.25, 1, 1],
    ),
    'cc_sam_class_weights': (
        class_sharpness.cc_sam_class_weights,
        {'divisor': 1.0},
        np.log([1.01, 8.01, 4.01]),
    ),
    'm2m_seed_acceptance': (
        translation.m2m_seed_acceptance,
        {'beta': 0.5},
        [[0, 1 - 0.5**8, 1 - 0.5**6], [0, 0, 0], [0, 0.75, 0]],
    ),
    'm2m_keep_probability': (translation.m2m_keep_probability, {}, [1, 0, 0.25]),
    'epoch_length': (samplers.epoch_length, {}, 16),
}


@pytest.mark.parametrize('name', VALUES)
def test_what_is_made_of_counts_is_right_for_a_class_without_any(name):
    function, options, expected = VALUES[name]
    np.testing.assert_allclose(function(COUNTS, **options), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize('counts', [[8, 0, 2], [0, 5, 1], [10**6, 0, 3]])
@pytest.mark.parametrize('prior', [samplers.log_prior, classification.logit_adjustment])
def test_a_class_that_was_never_seen_gains_no_more_than_the_rarest_that_was(prior, counts):
    log_prior = prior(counts)
    gains = losses.post_hoc_adjusted(jnp.zeros((1, 3)), log_prior=log_prior)[0]
    absent, rarest = int(np.argmin(counts)), int(np.argmin(np.where(counts, counts, np.inf)))
    assert gains[absent] == gains[rarest]
    # A logit barely above is enough for any class against one that nothing speaks for.
    logits = jnp.zeros((1, 3)).at[0, rarest].set(0.01)
    assert losses.post_hoc_adjusted(logits, log_prior=log_prior).argmax() == rarest


def test_training_pushes_a_class_that_was_never_seen_down_like_the_rarest():
    log_prior = losses.log_prior(COUNTS)

    def loss(logits):
        return losses.balanced_softmax(logits, jnp.array([0]), log_prior=log_prior).sum()

    gradient = jax.grad(loss)(jnp.zeros((1, 3)))[0]
    np.testing.assert_allclose(gradient, [-1 / 3, 1 / 6, 1 / 6], rtol=1e-6)


def test_logarithms_of_a_count_of_zero_are_refused():
    with np.errstate(divide='ignore'):
        log_counts = np.log(COUNTS)
    rows = jnp.eye(2, 4)
    for use in (
        lambda prior: losses.logit_adjusted(LOGITS, LABELS, log_prior=prior),
        lambda prior: losses.balanced_softmax(LOGITS, LABELS, log_prior=prior),
        lambda prior: losses.post_hoc_adjusted(LOGITS, log_prior=prior),
        lambda prior: losses.parametric_contrastive(LOGITS, rows, LABELS, log_prior=prior),
        lambda prior: losses.ldam(LOGITS, LABELS, margins=prior),
    ):
        with pytest.raises(ValueError, match='must be finite'):
            use(log_counts)


def test_the_seesaw_loss_takes_a_count_of_zero_for_one():
    def loss(counts):
        return jax.value_and_grad(
            lambda z: margin.seesaw(z, LABELS, counts=jnp.array(counts)).sum()
        )(LOGITS)

    for a, b in zip(loss(COUNTS), loss([8, 1, 2]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_remix_has_no_partner_of_a_class_without_images():
    found = mixing.remix_weight(LABELS, LABELS[::-1], lam=0.25, counts=COUNTS)
    np.testing.assert_array_equal(found, [0, 0.25])


def test_what_cannot_do_without_images_says_so():
    order = np.tile(np.arange(8), (3, 1))
    with pytest.raises(ValueError, match=r'classes \[1\] are not'):
        samplers.balanced_blocks(COUNTS, batch_size=3, permutations=order)
    with pytest.raises(ValueError, match=r'classes \[1\] have a probability but no image'):
        samplers.per_sample_weights([0.5, 0.25, 0.25], COUNTS)
    with pytest.raises(ValueError, match='prior must lie between 0 and 1'):
        sigmoid.sigmoid_bias_init(0.0)


def test_the_literal_covariance_of_a_class_without_features_is_not_negative():
    features, labels = jnp.array([[0.0], [2.0], [5.0]]), jnp.array([0, 0, 2])
    found = gaussian.class_gaussians(features, labels, 3, ridge=0.5)
    scaled = gaussian.with_expected_counts(found, 3)
    assert scaled.mean[1] == 0
    assert (scaled.covariance >= 0).all()
    assert scaled.covariance[0, 0, 0] > 0


@pytest.mark.parametrize('metric', ['l2', 'cos'])
@pytest.mark.parametrize('transform', ['un', 'l2n', 'cl2n'])
def test_the_nearest_mean_is_never_that_of_a_class_without_features(transform, metric):
    train = jnp.array([[5.0, 0.0], [6.0, 0.0], [0.0, 7.0]])
    means = heads.nearest_means(train, jnp.array([0, 0, 2]), 3, transform=transform)
    # Nearer to 0, the centroid of nothing, than to any class; and opposite to all of them.
    images = jnp.array([[0.1, 0.1], [-3.0, -4.0]])
    logits = heads.nearest_mean_logits(images, means, transform=transform, metric=metric)
    assert (logits.argmax(axis=1) != 1).all()
    assert (logits[:, 1] == -jnp.inf).all()
    assert not jnp.isnan(logits).any()
    seen = heads.nearest_means(train, jnp.array([0, 0, 1]), 2, transform=transform)
    alone = heads.nearest_mean_logits(images, seen, transform=transform, metric=metric)
    np.testing.assert_allclose(logits[:, ::2], alone, rtol=1e-6, atol=1e-6)
