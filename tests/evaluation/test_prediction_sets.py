from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltjax.evaluation.prediction_sets import (
    fit,
    measures,
    quantile,
)

EVEN = np.full(4, 0.25)


def recorded():
    """The problem that MAPIE was given: 60 validation and 8 test images of 4 classes."""
    rng = np.random.default_rng(7)
    labels = rng.integers(4, size=60)
    probabilities = 0.6 * rng.dirichlet(np.ones(4), size=60) + 0.4 * np.eye(4)[labels]
    return labels, probabilities, rng.dirichlet(np.ones(4), size=8)


MAPIE = {  # by alpha: the quantile of all images, and of those of each class alone
    0.1: (0.55736474, (0.57652287, 0.59481316, 0.57733611, 0.53362461)),
    0.25: (0.52223211, (0.52326819, 0.52532303, 0.53161624, 0.48295088)),
}
MAPIE_SETS = {
    0.1: [(0, 1), (1, 2), (2, 1), (4, 0), (6, 0), (7, 2)],
    0.25: [(1, 2), (2, 1), (4, 0), (6, 0), (7, 2)],
}


@pytest.mark.parametrize('alpha', MAPIE)
def test_agrees_with_mapie(alpha):
    """MAPIE 1.6.0, with `Given` an estimator whose predict_proba(X) is X.

    >> sets = SplitConformalClassifier(
    ..     Given(), confidence_level=1 - alpha, conformity_score='lac', prefit=True)
    >> sets.conformalize(probabilities[chosen], labels[chosen])
    >> sets._mapie_classifier.conformity_score_function_.quantiles_, sets.predict_set(test)[1]

    where `chosen` are all images, or those of one class.
    """
    labels, probabilities, test = recorded()
    of_all, of_classes = MAPIE[alpha]
    marginal = fit(labels, probabilities, None, method='marginal', alpha=alpha)
    np.testing.assert_allclose(marginal.thresholds, np.full(4, of_all), atol=5e-9)
    assert [tuple(pair) for pair in np.argwhere(marginal.sets(test)).tolist()] == MAPIE_SETS[alpha]
    own = fit(labels, probabilities, None, method='class_conditional', alpha=alpha)
    np.testing.assert_allclose(own.thresholds, of_classes, atol=5e-9)
    assert own.units.tolist() == [11, 15, 14, 20]


def exact_quantile(scores, codes, alpha):
    """The definition, in exact fractions; alpha as it is written."""
    sizes = {code: codes.count(code) for code in codes}
    total = len(sizes) + 1
    for level in sorted(scores):
        mass = sum(
            Fraction(1, total * sizes[code])
            for score, code in zip(scores, codes, strict=True)
            if score <= level
        )
        if mass >= 1 - Fraction(str(alpha)):
            return level
    return np.inf


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=40),
    st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.9]),
)
def test_the_quantile_is_as_it_is_defined(rows, alpha):
    scores, codes = ([row[part] for row in rows] for part in (0, 1))
    expected = exact_quantile(scores, codes, alpha)
    assert quantile(np.array(scores, float), np.array(codes), alpha) == expected


@pytest.mark.parametrize('alpha', [0.01, 0.05, 0.1, 0.2, 0.3, 1 / 3, 0.7])
def test_units_that_are_just_enough(alpha):
    """With m units less than 1 / alpha - 1 nothing is promised."""
    needed = int(np.ceil(1 / alpha - 1 - 1e-9))
    for units in (needed - 1, needed):
        scores = np.linspace(0.1, 0.9, max(units, 0))
        labels = np.zeros(len(scores), int)
        probabilities = np.stack([1 - scores, scores], 1)
        sets = fit(labels, probabilities, None, method='class_conditional', alpha=alpha)
        assert np.isinf(sets.thresholds[0]) == (units < needed)
        assert sets.too_few == ((0, 1) if units < needed else (1,))
        assert sets.sets(np.array([[0.0, 1.0]])).tolist() == [[units < needed, True]]


def simulated(rng, number, hardness, prior):
    """Images whose scores 1 - p of the true class are U ** hardness: P(score <= t) is known."""
    labels = rng.choice(len(prior), number, p=prior)
    scores = rng.random(number) ** np.asarray(hardness)[labels]
    probabilities = np.repeat((scores / (len(prior) - 1))[:, None], len(prior), axis=1)
    probabilities[np.arange(number), labels] = 1 - scores
    return labels, probabilities


HARDNESS, PRIOR = (4.0, 1.0, 0.25), (0.6, 0.3, 0.1)


def mean_coverages(method, repeats=400):
    """Mean over validation sets of the coverage of each class, which the thresholds tell."""
    rng = np.random.default_rng(11)
    found = []
    for _ in range(repeats):
        labels, probabilities = simulated(rng, 199, HARDNESS, PRIOR)
        sets = fit(labels, probabilities, None, method=method, alpha=0.1)
        found.append(np.minimum(sets.thresholds, 1) ** (1 / np.array(HARDNESS)))
    return np.mean(found, axis=0)


def test_marginal_coverage_holds_and_that_of_classes_does_not():
    coverages = mean_coverages('marginal')
    # Of 199 scores the 180th: it covers 180 / 200 on average, with a spread of 0.02 a time.
    assert coverages @ PRIOR == pytest.approx(0.9, abs=0.004)
    assert coverages[0] > 0.95
    assert coverages[2] < 0.6


def test_coverage_of_every_class_holds():
    coverages = mean_coverages('class_conditional')
    assert (coverages > 0.9 - 0.004).all()
    assert (coverages < (0.912, 0.922, 0.96)).all()  # 1 / (m + 1) above at most, of a small m


def test_simulated_sets_on_simulated_tests():
    rng = np.random.default_rng(5)
    labels, probabilities = simulated(rng, 4000, HARDNESS, PRIOR)
    tested, given_test = simulated(rng, 20_000, HARDNESS, PRIOR)
    sets = fit(labels, probabilities, None, method='class_conditional', alpha=0.2)
    got = measures(tested, sets.sets(given_test), {'tail': (2,)})(np.ones((1, 20_000), int))
    np.testing.assert_allclose(got['class coverage'][0], [0.8] * 3, atol=0.03)


@pytest.mark.parametrize(
    ('patients', 'covered', 'naive'), [(12, 12 / 13, 11 / 13), (5, 1.0, 5 / 6), (29, 0.9, 27 / 30)]
)
def test_copies_of_a_patients_image_are_not_counted_as_patients(patients, covered, naive):
    """Ten copies an image: as if independent, the threshold is that of too few patients."""
    rng = np.random.default_rng(2)
    codes = np.repeat(np.arange(patients), 10)
    labels, found = np.zeros(len(codes), int), {'patients': [], 'images': []}
    for _ in range(2000):
        scores = rng.random(patients)[codes]
        probabilities = np.stack([1 - scores, scores], 1)
        for name, groups in (('patients', codes), ('images', None)):
            sets = fit(labels, probabilities, groups, method='marginal', alpha=0.1)
            found[name].append(min(sets.thresholds[0], 1.0))  # scores are uniform: the coverage
    assert np.mean(found['patients']) == pytest.approx(covered, abs=0.006)
    assert np.mean(found['images']) == pytest.approx(naive, abs=0.006)
    assert np.mean(found['patients']) >= 0.9 - 0.006
    assert (np.array(found['images']) <= found['patients']).all()


def test_patients_weigh_the_same_whatever_their_number_of_images():
    """One patient in four has 40 easy images, the others one hard image each."""
    rng = np.random.default_rng(4)
    found = {'patients': [], 'images': []}
    for _ in range(400):
        easy = rng.random(60) < 0.25
        codes = np.repeat(np.arange(60), np.where(easy, 40, 1))
        scores = np.where(easy[codes], 0.5, 1.0) * rng.random(len(codes))
        probabilities = np.stack([1 - scores, scores], 1)
        labels = np.zeros(len(codes), int)
        for name, groups in (('patients', codes), ('images', None)):
            threshold = fit(labels, probabilities, groups, method='marginal').thresholds[0]
            found[name].append(0.25 * min(2 * threshold, 1) + 0.75 * min(threshold, 1))
    # Between 1 - alpha and one patient in 61 more.
    assert 0.9 - 0.004 < np.mean(found['patients']) < 0.9 + 1 / 61 + 0.004
    assert np.mean(found['images']) < 0.7


def test_patients_of_a_class_are_those_with_images_of_it():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(3, size=200), rng.dirichlet(np.ones(3), size=200)
    codes = rng.integers(40, size=200)
    sets = fit(labels, probabilities, codes, method='class_conditional')
    for k in range(3):
        own = labels == k
        assert sets.units[k] == len(set(codes[own].tolist()))
        assert sets.thresholds[k] == exact_quantile(
            (1 - probabilities[own, k]).tolist(), codes[own].tolist(), 0.1
        )
