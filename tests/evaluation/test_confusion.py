import numpy as np
import pytest
from sklearn import metrics as sk

from ltjax.evaluation import confusion

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 3, 3, 3])
PREDICTIONS = np.array([0, 0, 1, 2, 1, 1, 3, 3, 0, 3])  # class 2 is predicted, never true
PRESENT = [0, 1, 3]


def matrix():
    return sk.confusion_matrix(LABELS, PREDICTIONS, labels=range(4))


def test_metrics_by_hand():
    # Class 0: 2 of 4 found, 2 of 3 predictions right. 1: 2 of 3, 2 of 3. 3: 2 of 3, 2 of 3.
    np.testing.assert_allclose(confusion.recall(matrix()), [1 / 2, 2 / 3, np.nan, 2 / 3])
    np.testing.assert_allclose(confusion.precision(matrix()), [2 / 3, 2 / 3, 0, 2 / 3])
    np.testing.assert_allclose(confusion.f1(matrix()), [4 / 7, 2 / 3, 0, 2 / 3])
    assert confusion.accuracy(matrix()) == pytest.approx(0.6)
    assert confusion.balanced_accuracy(matrix()) == pytest.approx(11 / 18)
    assert confusion.group_recall(matrix(), [0, 3]) == pytest.approx(7 / 12)


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
    assert confusion.METRICS[name](matrix()) == pytest.approx(expected, abs=1e-12)


def test_kappa_agrees_with_scikit_learn():
    expected = sk.cohen_kappa_score(LABELS, PREDICTIONS, labels=range(4), weights='quadratic')
    assert confusion.quadratic_kappa(matrix()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('name', confusion.METRICS)
def test_leading_axes_are_independent(name):
    other = matrix() * 3 + np.eye(4, dtype=int) * np.array([1, 5, 0, 2])[:, None]
    stacked = confusion.METRICS[name](np.stack([[matrix(), other], [other, matrix()]]))
    a, b = confusion.METRICS[name](matrix()), confusion.METRICS[name](other)
    assert a != b
    np.testing.assert_allclose(stacked, [[a, b], [b, a]], rtol=1e-12)


def test_group_of_absent_classes_is_undefined():
    assert np.isnan(confusion.group_recall(matrix(), [2]))
    assert confusion.group_recall(matrix(), [1, 2]) == pytest.approx(2 / 3)


def test_kappa_of_one_class_is_undefined():
    assert np.isnan(confusion.quadratic_kappa(np.array([[3, 1], [0, 0]])))
