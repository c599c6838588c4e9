import numpy as np
import pytest
from sklearn import metrics as sk

from ltjax.evaluation import auc as module
from ltjax.evaluation.auc import auc, class_aucs
from ltjax.evaluation.bootstrap import stratified_weights


def literal(weights, labels, scores):
    """Counts pairs one by one."""
    areas = np.full((len(weights), len(scores)), np.nan)
    for k, own in enumerate(scores):
        positive = labels == k
        if not positive.any() or positive.all():
            continue
        higher = own[positive][:, None] > own[~positive][None, :]
        level = own[positive][:, None] == own[~positive][None, :]
        for r, row in enumerate(weights):
            pairs = np.outer(row[positive], row[~positive])
            areas[r, k] = (pairs * (2 * higher + level)).sum() / (2 * pairs.sum())
    return areas


def problem(num_classes, num_images, decimals, seed=0):
    """Class 1 has no images; one decimal makes nearly every score a tie."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_images)
    labels[labels == 1] = 0
    scores = np.round(rng.random((num_classes, num_images)), decimals)
    return labels, scores, stratified_weights(labels, 7, rng)


@pytest.mark.parametrize('decimals', [1, 8])
@pytest.mark.parametrize('most', [0, 12, 1000])
def test_both_ways_count_the_same_pairs(monkeypatch, decimals, most):
    """All classes by sums, some of them, or all by products."""
    labels, scores, weights = problem(6, 80, decimals)
    monkeypatch.setattr(module, '_MAX_PRODUCT_POSITIVES', most)
    np.testing.assert_array_equal(
        class_aucs(weights, labels, scores), literal(weights, labels, scores)
    )


def test_classes_that_do_not_fit_into_a_block(monkeypatch):
    labels, scores, weights = problem(4, 60, 1)
    want = class_aucs(weights, labels, scores)
    monkeypatch.setattr(module, '_BLOCK_SIZE', 60 * 7)
    np.testing.assert_array_equal(class_aucs(weights, labels, scores), want)


def test_counts_beyond_what_float32_holds():
    labels, scores, weights = problem(3, 40, 1)
    weights = weights * 2**20 + weights % 3  # odd sums of about 2^26
    np.testing.assert_array_equal(
        class_aucs(weights, labels, scores), literal(weights, labels, scores)
    )


def test_many_small_classes():
    labels = np.arange(300).repeat(2)
    scores = np.random.default_rng(3).random((300, 600)).round(2)
    weights = stratified_weights(labels, 3, np.random.default_rng(4))
    by_sums = [auc(weights, labels == k, scores[k]) for k in range(300)]
    np.testing.assert_array_equal(class_aucs(weights, labels, scores), np.stack(by_sums, 1))


@pytest.mark.parametrize('decimals', [1, 8])
def test_agrees_with_scikit_learn(decimals):
    rng = np.random.default_rng(2)
    positive = rng.random(80) < 0.3
    scores = np.round(rng.random(80) * 0.7 + 0.3 * positive, decimals)
    weights = stratified_weights(positive, 20, rng)
    expected = [sk.roc_auc_score(positive, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(auc(weights, positive, scores), expected, atol=1e-12)


def test_tied_scores_count_one_half():
    positive = np.array([True, True, False, False])
    ones = np.ones((1, 4), np.int64)
    assert auc(ones, positive, np.array([0.5, 0.5, 0.5, 0.5])) == 0.5
    # Of four pairs: 0.9 wins two, 0.5 ties one and wins one.
    assert auc(ones, positive, np.array([0.9, 0.5, 0.5, 0.1])) == 3.5 / 4


def test_undefined_without_negatives():
    ones = np.ones((3, 2), np.int64)
    areas = auc(ones, np.array([True, True]), np.array([0.1, 0.9]))
    assert np.isnan(areas).all()
    assert areas.shape == (3,)
    assert np.isnan(class_aucs(ones, np.array([1, 1]), np.eye(2))).all()
