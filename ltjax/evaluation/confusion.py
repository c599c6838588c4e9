"""Metrics of confusion matrices, over any number of leading axes at once.

Confusions are [..., K, K] counts, rows the true class and columns the predicted one. Macro averages
are over the classes with test images (non-empty rows), as in `ltjax.evaluation.metrics`. Within a
stack of confusions (resamples, seeds) the same rows must be empty.
"""

from collections.abc import Sequence

import numpy as np


def _present(confusions: np.ndarray) -> np.ndarray:
    """[K] bool: classes with test images."""
    return confusions.sum(-1).reshape(-1, confusions.shape[-1]).any(axis=0)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, empty: float) -> np.ndarray:
    """numerator / denominator, and `empty` where the denominator is zero."""
    safe = np.where(denominator == 0, 1, denominator)
    return np.where(denominator == 0, empty, numerator / safe)


def _true_positives(confusions: np.ndarray) -> np.ndarray:
    return np.diagonal(confusions, axis1=-2, axis2=-1)


def recall(confusions: np.ndarray) -> np.ndarray:
    """[..., K] share of each class that is found; NaN for a class without test images."""
    return _ratio(_true_positives(confusions), confusions.sum(-1), np.nan)


def precision(confusions: np.ndarray) -> np.ndarray:
    """[..., K] share of each class's predictions that are right; 0 if it is never predicted."""
    return _ratio(_true_positives(confusions), confusions.sum(-2), 0.0)


def f1(confusions: np.ndarray) -> np.ndarray:
    """[..., K] harmonic mean of precision and recall, 2 TP / (true + predicted)."""
    both = confusions.sum(-1) + confusions.sum(-2)
    return _ratio(2 * _true_positives(confusions), both, 0.0)


def accuracy(confusions: np.ndarray) -> np.ndarray:
    """[...] share of all images that is right."""
    return _true_positives(confusions).sum(-1) / confusions.sum((-2, -1))


def balanced_accuracy(confusions: np.ndarray) -> np.ndarray:
    """[...] mean recall of the classes with test images."""
    return recall(confusions)[..., _present(confusions)].mean(-1)


def macro_precision(confusions: np.ndarray) -> np.ndarray:
    """[...] mean precision of the classes with test images."""
    return precision(confusions)[..., _present(confusions)].mean(-1)


def macro_f1(confusions: np.ndarray) -> np.ndarray:
    """[...] mean F1 of the classes with test images."""
    return f1(confusions)[..., _present(confusions)].mean(-1)


def quadratic_kappa(confusions: np.ndarray) -> np.ndarray:
    """[...] Cohen's kappa with weights (i - j)^2; NaN if only one class has test images."""
    if _present(confusions).sum() < 2:
        return np.full(confusions.shape[:-2], np.nan)
    index = np.arange(confusions.shape[-1])
    weights = (index[:, None] - index[None, :]) ** 2
    observed = np.einsum('...ij,ij->...', confusions, weights)
    chance = np.einsum(
        '...i,ij,...j->...', confusions.sum(-1), weights, confusions.sum(-2), optimize=True
    )
    return 1.0 - observed * confusions.sum((-2, -1)) / chance


def group_recall(confusions: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """[...] mean recall of the listed classes with test images; NaN if none of them has any."""
    present = _present(confusions)
    members = [k for k in classes if present[k]]
    if not members:
        return np.full(confusions.shape[:-2], np.nan)
    return recall(confusions)[..., members].mean(-1)


METRICS = {
    'accuracy': accuracy,
    'balanced_accuracy': balanced_accuracy,
    'macro_f1': macro_f1,
    'macro_precision': macro_precision,
    'macro_recall': balanced_accuracy,
    'quadratic_kappa': quadratic_kappa,
}
