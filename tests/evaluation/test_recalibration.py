import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special
from sklearn import metrics as sk

from ltjax.errors import UserError
from ltjax.evaluation.recalibration import (
    TEMPERATURES,
    Temperature,
    VectorScaling,
    correct_prior,
    estimate_prior,
    fit_temperature,
    fit_vector,
)

PRIOR = np.array([0.7, 0.2, 0.1])


def problem(num_images=3000, seed=0, prior=PRIOR):
    """Labels drawn from the probabilities of the logits, so that these are calibrated."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num_images, len(prior))) * 1.5 + np.log(prior)
    probabilities = special.softmax(logits, axis=1)
    labels = (probabilities.cumsum(1) > rng.random((num_images, 1))).argmax(1)
    return labels, logits


def test_temperature_by_hand():
    """Three of four images are right, all by a margin of two: sigmoid(2 / T) = 3/4."""
    logits = np.array([[2, 0], [2, 0], [0, 2], [0, 2]])
    found = fit_temperature(np.array([0, 0, 1, 0]), logits)
    assert found.temperature == pytest.approx(2 / np.log(3), rel=1e-10)
    np.testing.assert_allclose(special.softmax(found.apply(logits), axis=1).max(1), 0.75)


@pytest.mark.parametrize('factor', [0.2, 1.0, 5.0])
def test_temperature_is_the_best_and_undoes_a_factor(factor):
    labels, logits = problem()
    found = fit_temperature(labels, factor * logits)
    oracle = optimize.minimize_scalar(
        lambda log: sk.log_loss(labels, special.softmax(factor * logits / np.exp(log), axis=1)),
        bounds=(-4, 4),
        method='bounded',
        options={'xatol': 1e-7},
    )
    assert np.log(found.temperature) == pytest.approx(oracle.x, abs=1e-5)
    assert found.temperature == pytest.approx(factor, rel=0.06)


@pytest.mark.parametrize('fit', [fit_temperature, fit_vector])
def test_what_softmax_does_not_see_changes_nothing(fit):
    labels, logits = problem(300)
    moved = logits + np.random.default_rng(1).normal(size=(300, 1)) * 100
    one, other = fit(labels, logits), fit(labels, moved)
    np.testing.assert_allclose(
        special.softmax(one.apply(logits), axis=1),
        special.softmax(other.apply(moved), axis=1),
        atol=1e-5,
    )


def test_temperature_keeps_the_predicted_classes():
    labels, logits = problem(300)
    applied = fit_temperature(labels, 3 * logits).apply(3 * logits)
    np.testing.assert_array_equal(applied.argmax(1), logits.argmax(1))


@pytest.mark.parametrize(
    ('logits', 'expected'),
    [
        (np.eye(3) * 0.01, TEMPERATURES[0]),  # told apart perfectly
        (np.eye(3) * 1e6, TEMPERATURES[0]),
        (-np.eye(3), TEMPERATURES[1]),  # the true class is always the least probable
        (np.full((3, 3), 0.1), 1.0),  # no temperature matters
    ],
)
def test_temperature_without_an_optimum(logits, expected):
    labels = np.arange(3)
    assert fit_temperature(labels, logits).temperature == expected
    # All classes are alike here; the ridge keeps what has no optimum near.
    vector = fit_vector(labels, logits)
    np.testing.assert_allclose(vector.bias, 0, atol=1e-6)
    np.testing.assert_allclose(vector.scale, vector.scale[0], rtol=1e-6)
    assert 0.5 < vector.scale[0] * expected < 2


def test_one_row_of_logits_for_all_images():
    """Two of three images are of class 0: the margin becomes log 2."""
    found = fit_temperature(np.array([0, 1, 0]), np.tile([0.3, 0.1], (3, 1)))
    assert found.temperature == pytest.approx(0.2 / np.log(2))


def penalised(parameters, labels, scaled):
    """What `fit_vector` says that it minimises."""
    scale, bias = parameters.reshape(2, -1)
    moved = scaled * scale + bias
    losses = special.logsumexp(moved, axis=1) - moved[np.arange(len(labels)), labels]
    return losses.sum() + 0.5 * ((scale - 1) ** 2).sum() + 0.5 * (bias**2).sum()


def test_vector_scaling_is_the_minimum_of_what_it_says():
    labels, logits = problem(200)
    logits = logits * [1, 2, 0.5] + [0, 1, -1]
    temperature = fit_temperature(labels, logits).temperature
    scaled = (logits - logits.mean(1, keepdims=True)) / temperature
    start = np.array([0.5, 2.0, 1.0, 1.0, -1.0, 0.0])
    oracle = optimize.minimize(
        penalised, start, (labels, scaled), method='BFGS', options={'gtol': 1e-3}
    )
    found = fit_vector(labels, logits)
    np.testing.assert_allclose(np.array(found.scale) * temperature, oracle.x[:3], atol=1e-4)
    np.testing.assert_allclose(found.bias, oracle.x[3:], atol=1e-4)
    gradient = optimize.approx_fprime(
        np.array([*np.array(found.scale) * temperature, *found.bias]),
        penalised,
        1e-6,
        labels,
        scaled,
    )
    np.testing.assert_allclose(gradient, 0, atol=1e-2)
    applied = found.apply(logits)
    assert applied == pytest.approx(
        (logits - logits.mean(1, keepdims=True)) * found.scale + found.bias
    )


def test_of_many_images_vector_scaling_undoes_a_bias_and_temperature_cannot():
    labels, logits = problem(20000)
    tested, clean = problem(20000, seed=1)
    wrong, moved = (scores + np.array([0, -2.0, 1.0]) for scores in (logits, clean))

    def loss(scores):
        return sk.log_loss(tested, special.softmax(scores, axis=1))

    best = loss(clean)
    assert loss(fit_vector(labels, wrong).apply(moved)) < best + 0.002
    assert loss(fit_temperature(labels, wrong).apply(moved)) > best + 0.1
    bias = np.array(fit_vector(labels, wrong).bias)
    np.testing.assert_allclose(bias - bias[0], [0, 2, -1], atol=0.15)


def test_a_class_without_validation_images_keeps_a_finite_bias():
    labels, logits = problem(400)
    kept = labels != 2
    found = fit_vector(labels[kept], logits[kept])
    assert -5 < found.bias[2] < -1
    assert np.isfinite(found.scale).all()
    # A hundred times the images, the same word against the class: further, but not to infinity.
    many = fit_vector(np.tile(labels[kept], 100), np.tile(logits[kept], (100, 1)))
    assert -20 < many.bias[2] < found.bias[2]


def test_few_images_move_vector_scaling_little_from_temperature_scaling():
    labels, logits = problem(6, prior=np.full(3, 1 / 3))
    found, temperature = fit_vector(labels, logits), fit_temperature(labels, logits).temperature
    assert np.abs(found.bias).max() < 1.5
    assert np.abs(np.array(found.scale) * temperature - 1).max() < 1.5


@pytest.mark.parametrize('fit', [fit_temperature, fit_vector])
@pytest.mark.parametrize(
    ('labels', 'logits', 'message'),
    [
        ([2, 2], np.eye(3)[:2], 'images of class 2 alone.*choose a split'),
        ([], np.empty((0, 3)), 'no images.*choose a split'),
        ([0, 1], [[np.nan, 0], [0, 1]], 'of 1 of 2 images are not finite.*learning rate'),
    ],
)
def test_what_nothing_can_be_fitted_on(fit, labels, logits, message):
    with pytest.raises(UserError, match=message) as caught:
        fit(np.array(labels, int), np.array(logits))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'fitted', [Temperature(1 / 3), VectorScaling((1.0, 1 / 3), (0.1, -2.0))], ids=['one', 'vector']
)
def test_what_was_fitted_goes_through_json(fitted):
    restored = type(fitted).from_json(json.loads(json.dumps(fitted.to_json())))
    assert restored == fitted
    logits = np.array([[1, 2], [3, 5]], np.float32)
    np.testing.assert_array_equal(restored.apply(logits), fitted.apply(logits))
    assert restored.apply(logits).dtype == np.float64


def test_vector_scaling_of_other_classes():
    with pytest.raises(ValueError, match=r'\(5, 3\) for 2 classes'):
        VectorScaling((1.0, 1.0), (0.0, 0.0)).apply(np.zeros((5, 3)))


def test_prior_by_hand():
    got = correct_prior(np.array([[0.5, 0.5], [0.9, 0.1]]), [0.5, 0.5], [0.2, 0.8])
    np.testing.assert_allclose(got, [[0.2, 0.8], [0.18 / 0.26, 0.08 / 0.26]])
    # Numbers of images are as good as shares.
    np.testing.assert_allclose(
        correct_prior(np.array([[0.5, 0.5]]), [30, 30], [1, 4]), [[0.2, 0.8]]
    )


shares = st.lists(st.floats(0.01, 1), min_size=4, max_size=4).map(
    lambda values: np.array(values) / sum(values)
)


@given(trained=shares, target=shares, seed=st.integers(0, 99))
def test_a_change_of_prior_is_undone_by_the_opposite_change(trained, target, seed):
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(4), 5)
    there = correct_prior(probabilities, trained, target)
    np.testing.assert_allclose(there.sum(1), 1)
    np.testing.assert_allclose(correct_prior(there, target, trained), probabilities, atol=1e-9)
    np.testing.assert_allclose(
        correct_prior(probabilities, trained, trained), probabilities, atol=1e-12
    )


def test_a_class_that_does_not_occur_in_the_target():
    got = correct_prior(np.array([[0.5, 0.3, 0.2], [1, 0, 0]]), [0.4, 0.3, 0.3], [0, 0.6, 0.4])
    np.testing.assert_allclose(got, [[0, 0.6 / 0.8667, 0.8 / 3 / 0.8667], [0, 0.6, 0.4]], atol=1e-4)


@pytest.mark.parametrize(
    ('trained', 'target', 'message'),
    [
        ([0, 1], [0.5, 0.5], 'class 0 has a trained share of zero.*leave it out'),
        ([0.5, 0.5], [0, 0], r'target class shares \[0.0, 0.0\]'),
        ([0.5, 0.5], [-1, 2], r'target class shares \[-1.0, 2.0\]: give numbers'),
        ([np.nan, 0.5], [1, 2], r'trained class shares \[nan, 0.5\]'),
    ],
)
def test_shares_that_are_none(trained, target, message):
    with pytest.raises(UserError, match=message):
        correct_prior(np.array([[0.5, 0.5]]), trained, target)


def test_the_shares_of_unlabelled_images_are_found():
    trained, true = np.full(3, 1 / 3), np.array([0.6, 0.35, 0.05])
    rng = np.random.default_rng(0)
    labels = rng.choice(3, size=20000, p=true)
    # Normal features of unit variance at the corners of a triangle: the probabilities are exact.
    features = rng.normal(size=(20000, 3)) + 2 * np.eye(3)[labels]
    probabilities = special.softmax(2 * features, axis=1)
    found = estimate_prior(probabilities, trained)
    np.testing.assert_allclose(found, true, atol=0.01)
    assert np.abs(probabilities.mean(0) - true).max() > 0.05
    # It is where the corrected probabilities have the shares that they were corrected for.
    corrected = correct_prior(probabilities, trained, found)
    np.testing.assert_allclose(corrected.mean(0), found, atol=1e-7)
    before, after = ((p.argmax(1) == labels).mean() for p in (probabilities, corrected))
    assert after > before


def test_the_estimate_is_the_most_likely_one():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 2], 200)
    trained = np.array([0.3, 0.7])
    oracle = optimize.minimize_scalar(
        lambda share: -np.log(probabilities @ (np.array([share, 1 - share]) / trained)).sum(),
        bounds=(0, 1),
        method='bounded',
        options={'xatol': 1e-9},
    )
    found = estimate_prior(probabilities, trained, tolerance=1e-12, max_iterations=10000)
    np.testing.assert_allclose(found, [oracle.x, 1 - oracle.x], atol=1e-6)


def test_one_iteration_is_the_mean_of_the_probabilities():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4]])
    for trained in ([0.5, 0.5], [0.2, 0.8]):
        found = estimate_prior(probabilities, trained, max_iterations=1)
        np.testing.assert_allclose(found, [0.75, 0.25])


def test_shares_of_certain_predictions_are_their_numbers():
    found = estimate_prior(np.eye(3)[[0, 0, 0, 1]], PRIOR)
    np.testing.assert_allclose(found, [0.75, 0.25, 0], atol=1e-12)


def test_shares_that_cannot_be_estimated():
    with pytest.raises(UserError, match='no images'):
        estimate_prior(np.empty((0, 2)), [0.5, 0.5])
    with pytest.raises(UserError, match='class 1 has a trained share of zero'):
        estimate_prior(np.array([[0.5, 0.5]]), [1, 0])
