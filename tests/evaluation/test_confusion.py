import json

import numpy as np
import pytest
from sklearn import metrics as sk

from ltjax.evaluation import confusion
from ltjax.evaluation.bootstrap import Units

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 3, 3, 3])
PREDICTIONS = np.array([0, 0, 1, 2, 1, 1, 3, 3, 0, 3])  # class 2 is predicted, never true
PRESENT = [0, 1, 3]


def tally_of(matrix):
    """The tallies of confusion matrices [..., K, K]."""
    index = np.arange(matrix.shape[-1])
    return confusion.Tally(
        true=matrix.sum(-1),
        predicted=matrix.sum(-2),
        correct=np.diagonal(matrix, axis1=-2, axis2=-1),
        squares=(matrix * (index[:, None] - index) ** 2).sum((-2, -1)),
    )


def matrix():
    return sk.confusion_matrix(LABELS, PREDICTIONS, labels=range(4))


def counts():
    return tally_of(matrix())


def test_metrics_by_hand():
    # Class 0: 2 of 4 found, 2 of 3 predictions right. 1: 2 of 3, 2 of 3. 3: 2 of 3, 2 of 3.
    np.testing.assert_allclose(confusion.recall(counts()), [1 / 2, 2 / 3, np.nan, 2 / 3])
    np.testing.assert_allclose(confusion.precision(counts()), [2 / 3, 2 / 3, 0, 2 / 3])
    np.testing.assert_allclose(confusion.f1(counts()), [4 / 7, 2 / 3, 0, 2 / 3])
    assert confusion.accuracy(counts()) == pytest.approx(0.6)
    assert confusion.balanced_accuracy(counts()) == pytest.approx(11 / 18)
    assert confusion.group_recall(counts(), [0, 3]) == pytest.approx(7 / 12)


@pytest.mark.parametrize(
    ('name', 'function'),
    [
        ('macro_precision', sk.precision_score),
        ('macro_recall', sk.recall_score),
        ('macro_f1', sk.f1_score),
    ],
)
def test_macro_metrics_agree_with_scikit_learn(name, function):
    expected = function(LABELS, PREDICTIONS, labels=PRESENT, average='macro', zero_division=0)
    assert confusion.METRICS[name](counts()) == pytest.approx(expected, abs=1e-12)


def test_kappa_agrees_with_scikit_learn():
    expected = sk.cohen_kappa_score(LABELS, PREDICTIONS, labels=range(4), weights='quadratic')
    assert confusion.quadratic_kappa(counts()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('name', confusion.METRICS)
def test_leading_axes_are_independent(name):
    other = matrix() * 3 + np.eye(4, dtype=int) * np.array([1, 5, 0, 2])[:, None]
    stacked = confusion.METRICS[name](tally_of(np.array([[matrix(), other], [other, matrix()]])))
    a, b = confusion.METRICS[name](counts()), confusion.METRICS[name](tally_of(other))
    assert a != b
    np.testing.assert_allclose(stacked, [[a, b], [b, a]], rtol=1e-12)


def test_group_of_absent_classes_is_undefined():
    assert np.isnan(confusion.group_recall(counts(), [2]))
    assert confusion.group_recall(counts(), [1, 2]) == pytest.approx(2 / 3)


def test_kappa_of_one_class_is_undefined():
    assert np.isnan(confusion.quadratic_kappa(tally_of(np.array([[3, 1], [0, 0]]))))


def test_kappa_of_more_images_than_integers_hold():
    """The product of its two sums is beyond 2^63."""
    few = np.array([[5, 1], [2, 4]])
    many = confusion.quadratic_kappa(tally_of(few * 2**31))
    assert many == pytest.approx(confusion.quadratic_kappa(tally_of(few)), abs=1e-12)


@pytest.mark.parametrize('num_classes', [2, 4, 300])
def test_tallies_are_those_of_the_repeated_images(num_classes):
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(num_classes, size=(2, 90))
    labels[labels == 1] = 0
    weights = Units(labels).draw(5, rng)
    got = confusion.tally(weights, labels, predictions, num_classes)
    want = tally_of(
        np.stack(
            [
                sk.confusion_matrix(
                    labels.repeat(row), predictions.repeat(row), labels=range(num_classes)
                )
                for row in weights
            ]
        )
    )
    for name in confusion.Tally._fields:
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), err_msg=name)


@pytest.mark.parametrize('num_classes', [200, 201])
def test_pairs_are_stored_as_a_matrix_or_as_lists(num_classes):
    pairs = confusion.count_pairs(LABELS, PREDICTIONS)
    stored = json.loads(json.dumps(confusion.to_json(pairs, num_classes)))
    assert isinstance(stored, list if num_classes == 200 else dict)
    again = confusion.from_json(stored)
    for name in confusion.Pairs._fields:
        np.testing.assert_array_equal(getattr(again, name), getattr(pairs, name))
    np.testing.assert_array_equal(confusion.matrix(again, num_classes)[:4, :4], matrix())


def test_pairs_as_they_are_stored():
    stored = confusion.to_json(confusion.count_pairs(LABELS, PREDICTIONS), 201)
    assert stored == {
        'true': [0, 0, 0, 1, 1, 3, 3],
        'predicted': [0, 1, 2, 1, 3, 0, 3],
        'images': [2, 1, 1, 2, 1, 1, 2],
    }


def test_pairs_in_another_order_of_classes():
    order = [3, 0, 2, 1]
    pairs = confusion.reorder(confusion.count_pairs(LABELS, PREDICTIONS), order)
    np.testing.assert_array_equal(confusion.matrix(pairs, 4), matrix()[np.ix_(order, order)])
    assert pairs.true.tolist() == sorted(pairs.true)
