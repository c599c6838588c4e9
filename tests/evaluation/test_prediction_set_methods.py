"""How methods of prediction sets differ, what they refuse, and what is measured of sets."""

import json

import numpy as np
import pytest

from ltjax.errors import UserError
from ltjax.evaluation.bootstrap import Units
from ltjax.evaluation.prediction_sets import (
    METHODS,
    NULL_CLUSTER,
    fit,
    measures,
    quantile,
)

EVEN = np.full(4, 0.25)


def drawn():
    """Labels and probabilities of 60 validation images of 4 classes, and the probabilities of 8 test images."""
    rng = np.random.default_rng(7)
    labels = rng.integers(4, size=60)
    probabilities = 0.6 * rng.dirichlet(np.ones(4), size=60) + 0.4 * np.eye(4)[labels]
    return labels, probabilities, rng.dirichlet(np.ones(4), size=8)


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
def test_json_says_everything(method):
    labels, probabilities, _ = drawn()
    sets = fit(labels, probabilities, None, method=method, alpha=0.07, prevalence=EVEN)
    said = json.loads(json.dumps(sets.to_json(), allow_nan=False))
    thresholds = [np.inf if value is None else value for value in said.pop('thresholds')]
    np.testing.assert_array_equal(thresholds, sets.thresholds)
    assert np.isinf(thresholds).any() == (method == 'class_conditional')
    assert said.pop('units') == sets.units.tolist() == np.bincount(labels).tolist()
    assert (said.pop('prevalence') is None) == (method != 'prevalence_adjusted')
    assert (said.pop('clusters') is None) == (method != 'clustered')
    assert said == {'method': method, 'alpha': 0.07, 'patients': 60}
    assert sets.too_few == (0,)


@pytest.mark.parametrize('alpha', [0.0, 1.0, -0.1, 10, float('nan')])
def test_an_alpha_that_is_no_share_is_refused(alpha):
    with pytest.raises(UserError, match='choose a number between 0 and 1') as error:
        fit(*drawn()[:2], None, method='marginal', alpha=alpha)
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
    labels, probabilities, _ = drawn()
    with pytest.raises(UserError, match=message):
        fit(labels, probabilities, None, method='prevalence_adjusted', prevalence=prevalence)


def test_a_method_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match='did you mean marginal'):
        fit(*drawn()[:2], None, method='margnal')
    with pytest.raises(ValueError, match='4 classes need as many'):
        fit(*drawn()[:2], None, method='prevalence_adjusted', prevalence=[1.0])


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


def test_a_patient_counts_once_however_many_images_it_has():
    """As in the promise. Of patient 0 three images are of class 0, of which one is missed, and one is of class 1."""
    labels, patients = np.array([0, 0, 0, 1, 0, 3]), np.array([0, 0, 0, 0, 1, 1])
    sets = np.eye(4, dtype=bool)[labels]
    sets[0], sets[5] = False, True
    got = measures(labels, sets, GROUPS, patients)(np.array([[1] * 6, [2] * 4 + [1] * 2]))
    for name, values in {
        'coverage': [(3 / 4 + 1) / 2, (2 * 3 / 4 + 1) / 3],
        'size': [(3 / 4 + 5 / 2) / 2, (2 * 3 / 4 + 5 / 2) / 3],
        'empty': [(1 / 4) / 2, (2 * 1 / 4) / 3],
        'head coverage': [(2 / 3 + 1) / 2, (2 * 2 / 3 + 1) / 3],
        'medium coverage': [1, 1],
        'tail size': [4, 4],
    }.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-12, err_msg=name)


def test_measures_are_those_of_the_repeated_images():
    rng = np.random.default_rng(9)
    labels, sets = rng.choice([0, 2, 3], 80), rng.random((80, 4)) < 0.4
    weights = np.concatenate([Units(labels).draw(5, rng), [(labels == 0).astype(int)]])
    got = measures(labels, sets, GROUPS)(weights)
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
