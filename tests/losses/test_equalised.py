"""Vector scaling, SEQL, label-aware smoothing, LADER, the range loss and DisAlign's logits, with numbers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses

# Two classes with priors 3/4 and 1/4. Class 0 has logits 1 and 0, class 1 has 2.
PRIOR = np.log([0.75, 0.25])
LOGITS = jnp.array([[1.0, 0.0], [0.0, -1.0], [0.5, 2.0]])
LABELS = jnp.array([0, 0, 1])


def test_lader_by_hand():
    # m = (1/2, 2); s_0 = log((e + 1 + e^0.5) / 3 / (2 3/4)), s_1 = log((1 + 1/e + e^2) / 3 / (2 1/4)).
    second = np.log([(np.e + 1 + np.e**0.5) / 4.5, (1 + np.exp(-1) + np.e**2) / 1.5])
    expected = 0.75 * (second[0] + 0.1 * second[0] ** 2 - 0.5)
    expected += 0.25 * (second[1] + 0.1 * second[1] ** 2 - 2.0)
    found = losses.lade_regulariser(LOGITS, LABELS, log_prior=PRIOR)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # Each image by its own label: 2/3, 2/3 and 2.
    second = np.log(
        [(2 * (np.e + 1) / 3 + 2 * np.e**0.5) / 3, (2 * (1 + np.exp(-1)) / 3 + 2 * np.e**2) / 3]
    )
    expected = 0.75 * (second[0] - 0.5) + 0.25 * (second[1] - 2.0)
    found = losses.lade_regulariser(
        LOGITS, LABELS, log_prior=PRIOR, penalty=0.0, importance='examples'
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="'classes' or 'examples', got 'images'"):
        losses.lade_regulariser(LOGITS, LABELS, log_prior=PRIOR, importance='images')


def test_a_class_that_is_absent_is_pushed_down_by_lader():
    gradient = jax.grad(
        lambda z: losses.lade_regulariser(z, jnp.zeros(3, int), log_prior=PRIOR, penalty=0.0)
    )(LOGITS)
    np.testing.assert_allclose(gradient.sum(axis=0), [0.0, 0.25], atol=1e-6)
    assert (gradient[:, 1] > 0).all()


def test_all_rivals_ignored_leave_nothing():
    found = losses.softmax_equalization(LOGITS, LABELS, ignored=jnp.ones((3, 2), bool))
    np.testing.assert_array_equal(found, 0)
    with pytest.raises(ValueError, match=r'ignored must have shape \[3, 2\]'):
        losses.softmax_equalization(LOGITS, LABELS, ignored=jnp.ones((2, 2), bool))


def test_ignored_rivals_have_no_gradient():
    ignored = jnp.array([[False, True], [False, False], [True, False]])
    gradient = jax.grad(lambda z: losses.softmax_equalization(z, LABELS, ignored=ignored).sum())(
        LOGITS
    )
    np.testing.assert_allclose(gradient[::2], 0, atol=1e-7)
    assert gradient[1, 1] > 0.2


def test_smoothing_goes_from_tail_to_head():
    counts, options = [101, 51, 26, 1], {'head': 0.4, 'tail': 0.1}
    rank = np.array([1, 0.5, 0.25, 0])
    expected = {
        'concave': np.sin(np.pi / 2 * rank),
        'linear': rank,
        'convex': 1 + np.sin(np.pi / 2 * (3 + rank)),
        'exp': rank**3,
    }
    for shape, share in expected.items():
        found = losses.smoothing_factors(counts, **options, shape=shape, power=3.0)
        np.testing.assert_allclose(found, 0.1 + 0.3 * share, rtol=1e-9)
    np.testing.assert_array_equal(losses.smoothing_factors([7, 7], **options), [0.1, 0.1])
    for wrong, message in (
        ({'head': 1.5}, 'head must lie in 0..1'),
        ({'power': 0.0}, 'power must be positive'),
        ({'shape': 'sine'}, "shape must be one of concave, linear, convex, exp, got 'sine'"),
    ):
        with pytest.raises(ValueError, match=message):
            losses.smoothing_factors(counts, **wrong)


def test_the_range_loss_by_hand():
    features = jnp.array([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0], [9.0, 9.0], [1.0, 1.0], [1.0, 1.0]])
    labels = jnp.array([0, 0, 0, 1, 2, 2])
    intra, inter = losses.range_loss(features, labels, num_classes=4, widest=2, margin=5.0)
    # Class 0: 25, 13 and 4; class 1 has one image; class 2 two that are equal; class 3 none. Centres (1, 2) and (1, 1).
    np.testing.assert_allclose(intra, 2 / (1 / 25 + 1 / 13), rtol=1e-5)
    np.testing.assert_allclose(inter, 5 - 1, rtol=1e-5)
    assert losses.range_loss(features, labels, num_classes=4, margin=0.5).inter == 0


@pytest.mark.parametrize('batch', [1, 4])
def test_a_batch_with_single_images_has_no_range(batch):
    features = jnp.arange(2.0 * batch).reshape(batch, 2)

    def total(features):
        return sum(losses.range_loss(features, jnp.arange(batch), num_classes=batch, margin=0.0))

    value, gradient = jax.value_and_grad(total)(features)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)
    with pytest.raises(ValueError, match='widest must be 1 or more'):
        losses.range_loss(features, jnp.arange(batch), num_classes=batch, widest=0)


def test_a_calibration_of_nothing_changes_nothing():
    confidence = jnp.array([-2.0, 0.0, 3.0])
    same = losses.aligned_logits(LOGITS, confidence, magnitude=jnp.ones(2), margin=jnp.zeros(2))
    np.testing.assert_allclose(same, LOGITS, rtol=1e-6)
    # As the released code writes it: (1 + s scale) z + s margin.
    scale, margin = np.array([0.5, -0.25]), np.array([1.0, 2.0])
    score = 1 / (1 + np.exp(-np.array(confidence)))[:, None]
    found = losses.aligned_logits(LOGITS, confidence, magnitude=1 + scale, margin=margin)
    np.testing.assert_allclose(found, (1 + score * scale) * LOGITS + score * margin, rtol=1e-6)
