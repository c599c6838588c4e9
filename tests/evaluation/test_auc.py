import numpy as np
import pytest
from sklearn import metrics as sk

from ltjax.evaluation.auc import class_aucs, rank
from ltjax.evaluation.bootstrap import Units


def literal(weights, labels, scores):
    """Counts pairs one by one."""
    found = np.full((len(weights), len(scores)), np.nan)
    for k, own in enumerate(scores):
        positive = labels == k
        if not positive.any() or positive.all():
            continue
        higher = own[positive][:, None] > own[~positive][None, :]
        level = own[positive][:, None] == own[~positive][None, :]
        for r, row in enumerate(weights):
            pairs = np.outer(row[positive], row[~positive])
            found[r, k] = (pairs * (2 * higher + level)).sum() / (2 * pairs.sum())
    return found


def problem(num_classes, num_images, decimals, seed=0):
    """Class 1 has no images; one decimal makes nearly every score a tie."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_images)
    labels[labels == 1] = 0
    scores = np.round(rng.random((num_classes, num_images)), decimals)
    return labels, scores, Units(labels).draw(7, rng)


def areas(weights, labels, scores):
    ranks = [rank(labels == k, own) for k, own in enumerate(scores)]
    return class_aucs(weights, ranks)


@pytest.mark.parametrize('decimals', [1, 8])
@pytest.mark.parametrize(('num_classes', 'num_images'), [(2, 60), (6, 80), (40, 60)])
def test_the_same_pairs_as_counted_one_by_one(num_classes, num_images, decimals):
    """Of 40 classes most have one image, or none."""
    labels, scores, weights = problem(num_classes, num_images, decimals)
    if num_classes == 2:
        labels = (scores[0] < 0.3).astype(int)
    np.testing.assert_array_equal(areas(weights, labels, scores), literal(weights, labels, scores))


@pytest.mark.parametrize('most', [2**8, 2**16, 2**25])
def test_counts_at_the_bounds_of_narrow_integers(most):
    labels, scores, weights = problem(3, 40, 1)
    weights = weights * (most // 40) + weights % 3
    assert (weights.sum(1) >= most).any()
    np.testing.assert_array_equal(areas(weights, labels, scores), literal(weights, labels, scores))


def test_images_below_every_own_one_are_not_added_up():
    positive = np.array([False, True, True, False, False])
    ranks = rank(positive, np.array([0.1, 0.9, 0.5, 0.5, 0.4]))
    assert ranks.own.tolist() == [2, 1]
    assert ranks.places.toarray().tolist() == [[0] * 5, [0, 0, 0, 1, 0], *([[0] * 5] * 3)]
    assert areas(np.ones((1, 5), int), positive.astype(int), np.eye(2, 5)).shape == (1, 2)


@pytest.mark.parametrize('decimals', [1, 8])
def test_agrees_with_scikit_learn(decimals):
    rng = np.random.default_rng(2)
    positive = rng.random(80) < 0.3
    scores = np.round(rng.random(80) * 0.7 + 0.3 * positive, decimals)
    weights = Units(positive).draw(20, rng)
    expected = [sk.roc_auc_score(positive, scores, sample_weight=row) for row in weights]
    got = class_aucs(weights, [rank(positive, scores)])
    np.testing.assert_allclose(got[:, 0], expected, atol=1e-12)


def test_tied_scores_count_one_half():
    positive = np.array([True, True, False, False])
    ones = np.ones((1, 4), np.int64)
    # Of four pairs all are tied; or 0.9 wins two, 0.5 ties one and wins one.
    for scores, area in (([0.5, 0.5, 0.5, 0.5], 0.5), ([0.9, 0.5, 0.5, 0.1], 3.5 / 4)):
        assert class_aucs(ones, [rank(positive, np.array(scores))]) == area


def test_undefined_without_negatives_or_positives():
    ones = np.ones((3, 2), np.int64)
    got = areas(ones, np.array([1, 1]), np.eye(2))
    assert np.isnan(got).all()
    assert got.shape == (3, 2)
