import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltjax.errors import UserError
from ltjax.evaluation.bootstrap import Units
from ltjax.evaluation.prediction_sets import (
    METHODS,
    NULL_CLUSTER,
    PredictionSets,
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


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('grouped', [False, True])
def test_order_and_names_of_patients_do_not_matter(method, grouped):
    rng = np.random.default_rng(1)
    labels, probabilities = rng.integers(4, size=300), rng.dirichlet(np.ones(4), size=300)
    codes = np.sort(rng.integers(90, size=300))
    order = np.random.default_rng(2).permutation(300)
    kwargs = {'method': method, 'alpha': 0.2, 'prevalence': EVEN}
    a = fit(labels, probabilities, codes if grouped else None, **kwargs)
    if grouped:
        b = fit(labels[order], probabilities[order], 7 * codes[order] + 3, **kwargs)
        np.testing.assert_array_equal(a.thresholds, b.thresholds)
    again = fit(labels, probabilities, codes if grouped else None, **kwargs)
    np.testing.assert_array_equal(a.thresholds, again.thresholds)
    smaller = fit(labels, probabilities, codes if grouped else None, **{**kwargs, 'alpha': 0.4})
    assert (smaller.thresholds <= a.thresholds).all()
    alone = fit(labels, probabilities, np.arange(300), **kwargs)
    without = fit(labels, probabilities, None, **kwargs)
    np.testing.assert_array_equal(alone.thresholds, without.thresholds)


def test_prevalence_adjusted_scores_by_hand():
    prevalence = [0.8, 0.2]
    labels = np.array([0, 0, 0, 1])
    probabilities = np.array([[0.8, 0.2], [0.4, 0.6], [0.72, 0.28], [0.9, 0.1]])
    sets = fit(
        labels,
        probabilities,
        None,
        method='prevalence_adjusted',
        alpha=0.4,
        prevalence=prevalence,
    )
    # p / prevalence of the labels: 1, 0.5, 0.9, 0.5. Of five the third best is 0.5.
    np.testing.assert_array_equal(sets.thresholds, [-0.5, -0.5])
    tested = np.array([[0.39, 0.61], [0.91, 0.09], [0.9, 0.1]])
    assert sets.sets(tested).tolist() == [[False, True], [True, False], [True, True]]


def test_prevalence_adjusted_sets_hold_rare_classes_more_often():
    rng = np.random.default_rng(3)
    prior = np.array([0.8, 0.17, 0.03])

    def draw(number):
        labels = rng.choice(3, number, p=prior)
        odds = prior * np.exp(rng.normal(size=(number, 3)) + 1.5 * np.eye(3)[labels])
        return labels, odds / odds.sum(1, keepdims=True)

    labels, probabilities = draw(3000)
    tested, given_test = draw(20_000)
    got = {}
    for method in ('marginal', 'prevalence_adjusted'):
        sets = fit(labels, probabilities, None, method=method, prevalence=prior)
        figures = measures(tested, sets.sets(given_test), {'tail': (2,)})
        got[method] = figures(np.ones((1, 20_000), int))
        assert got[method]['coverage'][0] == pytest.approx(0.9, abs=0.02)
    assert got['prevalence_adjusted']['tail coverage'] > got['marginal']['tail coverage'] + 0.2


def many_classes(number=100):
    """So many classes of 80 images, every other one hard, and one more of five images."""
    rng = np.random.default_rng(6)
    labels = np.concatenate([np.repeat(np.arange(number), 80), [number] * 5])
    scores = 0.2 * rng.random(len(labels)) + np.where(labels % 2, 0.6, 0.2)
    probabilities = np.repeat((scores / number)[:, None], number + 1, axis=1)
    probabilities[np.arange(len(labels)), labels] = 1 - scores
    return labels, probabilities, 1 - (1 - scores)


@pytest.mark.parametrize('grouped', [False, True])
def test_clusters_are_of_classes_with_like_scores(grouped):
    """Nine images are needed, 100 classes have them: five in nine make 5 // 2 clusters."""
    labels, probabilities, scores = many_classes()
    codes = np.arange(len(labels)) // (2 if grouped else 1)
    sets = fit(labels, probabilities, codes, method='clustered', seed=1)
    assert sets.too_few == (100,)
    assert sets.clusters[100] == NULL_CLUSTER
    easy, hard = set(sets.clusters[:100:2].tolist()), set(sets.clusters[1:100:2].tolist())
    assert {len(easy), len(hard)} == {1}
    assert easy | hard == {0, 1}
    # The other patients are calibrated on.
    rest = (np.random.default_rng(1).random(codes.max() + 1) >= 5 / 9)[codes]
    for k, own in ((0, labels % 2 == 0), (1, labels % 2 == 1), (100, labels >= 0)):
        chosen = rest & own & ((labels < 100) | (k == 100))
        assert sets.thresholds[k] == quantile(scores[chosen], codes[chosen], 0.1)
    assert sets.thresholds[0] < 0.4 < sets.thresholds[100] < sets.thresholds[1] < 0.8


def test_few_classes_of_few_images_make_no_clusters():
    labels, probabilities, _ = many_classes(40)  # 9 * 40 // 115 = 3 of nine: one cluster is none
    sets = fit(labels, probabilities, None, method='clustered')
    assert (sets.clusters == NULL_CLUSTER).all()
    assert len(set(sets.thresholds.tolist())) == 1


def test_classes_of_equal_scores_are_one_cluster():
    labels = np.repeat(np.arange(30), 60)
    probabilities = np.full((1800, 30), 1 / 30)
    sets = fit(labels, probabilities, None, method='clustered')
    assert set(sets.clusters.tolist()) == {0}
    assert sets.sets(probabilities).all()


def test_what_has_too_few_images_is_in_every_set():
    labels = np.array([0] * 9 + [1] * 8)
    probabilities = np.full((17, 3), 1 / 3)
    sets = fit(labels, probabilities, None, method='class_conditional')
    assert np.isinf(sets.thresholds).tolist() == [False, True, True]
    assert sets.too_few == (1, 2)
    assert sets.sets(np.array([[0.1, 0.0, 0.9]])).tolist() == [[False, True, True]]
    for method in METHODS:
        for images in (0, 8):
            few = fit(
                labels[:images], probabilities[:images], None, method=method, prevalence=[1 / 3] * 3
            )
            assert np.isinf(few.thresholds).all()
            assert few.too_few == (0, 1, 2)


@pytest.mark.parametrize('method', METHODS)
def test_json_keeps_everything(method):
    labels, probabilities, test = recorded()
    sets = fit(labels, probabilities, None, method=method, alpha=0.07, prevalence=EVEN)
    text = json.dumps(sets.to_json(), allow_nan=False)
    again = PredictionSets.from_json(json.loads(text))
    assert json.dumps(again.to_json()) == text
    np.testing.assert_array_equal(again.thresholds, sets.thresholds)
    np.testing.assert_array_equal(again.sets(test), sets.sets(test))
    assert np.isinf(again.thresholds).any() == (method == 'class_conditional')
    assert again.too_few == sets.too_few == (0,)


@pytest.mark.parametrize('alpha', [0.0, 1.0, -0.1, 10, float('nan')])
def test_an_alpha_that_is_no_share_is_refused(alpha):
    with pytest.raises(UserError, match='choose a number between 0 and 1') as error:
        fit(*recorded()[:2], None, method='marginal', alpha=alpha)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('prevalence', 'message'),
    [
        (None, 'give the share of each class in training'),
        ([0.5, 0.5, 0.5, 1.5], 'prevalence 1.5 of class 3: give a share from 0 to 1'),
        ([0.5, np.nan, 0.5, 0.5], 'prevalence nan of class 1'),
        ([0.5, 0.0, 0.25, 0.25], 'class 1 has no training images; choose another method'),
    ],
)
def test_a_prevalence_that_cannot_be_divided_by_is_refused(prevalence, message):
    labels, probabilities, _ = recorded()
    with pytest.raises(UserError, match=message):
        fit(labels, probabilities, None, method='prevalence_adjusted', prevalence=prevalence)


def test_a_method_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match='did you mean marginal'):
        fit(*recorded()[:2], None, method='margnal')
    with pytest.raises(ValueError, match='4 classes need as many'):
        fit(*recorded()[:2], None, method='prevalence_adjusted', prevalence=[1.0])


GROUPS = {'head': (0,), 'medium': (1, 2), 'tail': (3,)}


def test_measures_by_hand():
    labels = np.array([0, 0, 1, 3])
    sets = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0]], bool)
    got = measures(labels, sets, GROUPS)(np.array([[1, 1, 1, 1], [0, 2, 1, 3]]))
    nan = np.nan
    expected = {
        'coverage': [2 / 4, 1 / 6],
        'size': [6 / 4, 10 / 6],
        'empty': [1 / 4, 2 / 6],
        'single': [1 / 4, 1 / 6],
        'class coverage': [[1 / 2, 1, nan, 0], [0, 1, nan, 0]],
        'class size': [[1, 1, nan, 3], [0, 1, nan, 3]],
        'head coverage': [1 / 2, 0],
        'head size': [1, 0],
        'medium coverage': [1, 1],
        'medium size': [1, 1],
        'tail coverage': [0, 0],
        'tail size': [3, 3],
    }
    assert set(got) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize('times', [1, 400])
def test_measures_are_those_of_the_repeated_images(times):
    """400 times the weights: the sums of labels are beyond narrow integers."""
    rng = np.random.default_rng(9)
    labels, sets = rng.choice([0, 2, 3], 80), rng.random((80, 4)) < 0.4
    weights = np.concatenate([Units(labels).draw(5, rng), [(labels == 0).astype(int)]])
    got = measures(labels, sets, GROUPS)(weights * times)
    for r, row in enumerate(weights):
        own, chosen = labels.repeat(row), sets.repeat(row, axis=0)
        hit, size = chosen[np.arange(len(own)), own], chosen.sum(1)
        classes = {k: (hit[own == k].mean(), size[own == k].mean()) for k in np.unique(own)}
        expected = {'coverage': hit.mean(), 'size': size.mean()}
        expected |= {'empty': (size == 0).mean(), 'single': (size == 1).mean()}
        for part, figure in enumerate(('coverage', 'size')):
            for k in range(4):
                value = classes.get(k, (np.nan,) * 2)[part]
                assert got[f'class {figure}'][r, k] == pytest.approx(value, abs=1e-12, nan_ok=True)
            for name, members in GROUPS.items():
                values = [classes[k][part] for k in members if k in classes]
                expected[f'{name} {figure}'] = np.mean(values) if values else np.nan
        for name, value in expected.items():
            assert got[name][r] == pytest.approx(value, abs=1e-12, nan_ok=True), name
