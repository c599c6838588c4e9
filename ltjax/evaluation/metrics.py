"""The metrics of a test set, with intervals: `point_metrics` and `evaluate`.

A class without test images has no recall and no AUC. It is left out of every macro average
(balanced accuracy, macro precision, recall, F1 and AUC), so that balanced accuracy and macro recall
are the same number. With test images of one class only, AUC and kappa are undefined.

Not clu.metrics: its collections add up batch after batch, and a resampled interval needs all predictions at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn import metrics as sk

from ltjax.errors import UserError
from ltjax.evaluation import confusion
from ltjax.evaluation.auc import Ranks, class_aucs, rank
from ltjax.evaluation.bootstrap import bootstrap, interval, intervals
from ltjax.evaluation.table import listed

# Images, and classes, whose probabilities are worked out at once.
_ROWS, _COLUMNS = 256, 32
_NO_ORDER = (
    'No quadratic kappa is given, since it is not known whether the classes have an order: if they '
    'are grades, set --config.data.class_order.'
)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns float64 probabilities [n, K] of logits [n, K]; UserError if one is not finite."""
    logits = np.asarray(logits)
    _refuse_not_finite(logits)
    exponentials, _, totals = _exponentials(logits)
    return exponentials / totals


def _exponentials(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns float64 exponentials [n, K] of logits less their largest [n, 1], it, and sums [n, 1]."""
    logits = logits.astype(np.float64)
    peaks = logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(logits - peaks)
    return exponentials, peaks, exponentials.sum(axis=-1, keepdims=True)


def _refuse_not_finite(logits: np.ndarray) -> None:
    finite = np.isfinite(logits).all(axis=-1)
    if not finite.all():
        raise UserError(
            f'logits of {np.count_nonzero(~finite)} of {len(logits)} images are not finite: '
            'training diverged; lower the learning rate or clip the gradients.'
        )


class Probabilities:
    """The softmax of logits [n, K], as `softmax` has it, without an array of them all.

    Of ten thousand classes such an array takes gigabytes. The numbers of a class lie side by side.

    Attributes:
      predictions: [n] int64 the most probable classes.
    """

    def __init__(self, logits: np.ndarray) -> None:
        """Takes the logits, which are kept as they are; UserError if one is not finite."""
        self._logits = np.asarray(logits)
        _refuse_not_finite(self._logits)
        num_images, self.num_classes = self._logits.shape
        self.predictions = np.empty(num_images, np.int64)
        self._peaks, self._totals = np.empty((2, num_images))
        for start in range(0, num_images, _ROWS):
            rows = slice(start, start + _ROWS)
            exponentials, peaks, totals = _exponentials(self._logits[rows])
            self.predictions[rows] = (exponentials / totals).argmax(-1)
            self._peaks[rows], self._totals[rows] = peaks[:, 0], totals[:, 0]

    def by_class(self) -> Iterator[np.ndarray]:
        """Yields [n] float64 probabilities of each class in turn."""
        for start in range(0, self.num_classes, _COLUMNS):
            logits = self._logits[:, start : start + _COLUMNS].T.astype(np.float64, order='C')
            yield from np.exp(logits - self._peaks) / self._totals


def rank_classes(
    labels: np.ndarray, probabilities: Probabilities
) -> tuple[list[Ranks | None], np.ndarray]:
    """Returns the ranks of each class, and of few classes their areas [K] as scikit-learn has them.

    Those differ from `class_aucs` in the last bit, and the macro AUC of few classes was published
    with it. Of more, scikit-learn takes minutes; there, and where an area is undefined, is NaN.
    """
    ranks, areas = [], np.full(probabilities.num_classes, np.nan)
    for k, scores in enumerate(probabilities.by_class()):
        positive = labels == k
        ranks.append(rank(positive, scores))
        if ranks[k] is not None and len(areas) <= confusion.MAX_MATRIX_CLASSES:
            areas[k] = sk.roc_auc_score(positive, scores)
    return ranks, areas


def point_metrics(
    labels: np.ndarray, predictions: np.ndarray, areas: np.ndarray, *, ordered: bool
) -> dict[str, float]:
    """Computes the headline metrics, as fractions.

    Args:
      labels: [n] int true classes.
      predictions: [n] int predicted classes.
      areas: [K] one-vs-rest areas under the ROC curve, NaN where undefined.
      ordered: whether class indices are grades.

    Returns:
      accuracy, balanced_accuracy, macro_f1, macro_precision, macro_recall, macro_auc (one against
      the rest) and, of ordered classes, quadratic_kappa of their indices. See the module for absent
      classes; an undefined metric is NaN.
    """
    present = np.unique(labels)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        labels, predictions, labels=present, average='macro', zero_division=0
    )
    values = {
        'accuracy': sk.accuracy_score(labels, predictions),
        'balanced_accuracy': recall,
        'macro_f1': f1,
        'macro_precision': precision,
        'macro_recall': recall,
        'macro_auc': np.nanmean(areas) if len(present) > 1 else np.nan,
    }
    if ordered:
        values['quadratic_kappa'] = _kappa(labels, predictions, len(areas))
    return {name: float(value) for name, value in values.items()}


def _kappa(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> float:
    if len(np.unique(labels)) < 2:
        return np.nan
    if num_classes > confusion.MAX_MATRIX_CLASSES:  # scikit-learn makes several matrices [K, K]
        ones = np.ones((1, len(labels)), np.int64)
        return confusion.quadratic_kappa(
            confusion.tally(ones, labels, predictions, num_classes)
        ).item()
    classes = np.arange(num_classes)
    return sk.cohen_kappa_score(labels, predictions, labels=classes, weights='quadratic')


def evaluate(
    labels: np.ndarray,
    logits: np.ndarray,
    *,
    class_names: Sequence[str],
    train_counts: Sequence[int],
    groups: Mapping[str, Sequence[int]],
    num_bootstrap: int = 1000,
    seed: int = 0,
    ordered: bool = False,
) -> dict[str, Any]:
    """Evaluates test logits, every number with its 95 % interval (stratified bootstrap).

    Args:
      labels: [n] int true classes.
      logits: [n, K] float.
      class_names: [K] distinct names.
      train_counts: [K] training images of each class.
      groups: class indices by group, from `ltjax.evaluation.groups.head_medium_tail`.
      num_bootstrap: number of resamples.
      seed: seed of the resamples.
      ordered: whether the classes are grades, in the order of their indices. Only then is there a
        quadratic kappa: of other classes it says nothing.

    Returns:
      A JSON-able dict; metrics are fractions {'value', 'low', 'high'}, all None where undefined:
      'num_images'; 'metrics', by name as in `point_metrics`; 'groups', by name {'classes': names,
      'recall'}, the mean recall of the group's classes with test images; 'per_class', a list of
      {'name', 'train_count', 'test_count', 'recall', 'precision', 'f1', 'auc'}; 'confusion', counts by
      true and predicted class, [K][K] or with many classes the occupied cells alone, see
      `ltjax.evaluation.confusion.to_json`; 'warnings', sentences.

    Raises:
      UserError: there are no images, a logit is not finite, or two classes share a name.
      ValueError: the shapes do not agree or a label is out of range.
    """
    labels = np.asarray(labels)
    _check(labels, np.shape(logits), class_names, train_counts)
    probabilities = Probabilities(logits)
    predictions, num_classes = probabilities.predictions, len(class_names)
    ranks, areas = rank_classes(labels, probabilities)
    measured = {
        name: metric
        for name, metric in confusion.METRICS.items()
        if ordered or name != 'quadratic_kappa'
    }

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        counts = confusion.tally(weights, labels, predictions, num_classes)
        auc = class_aucs(weights, ranks)
        defined = ~np.isnan(auc[0])
        macro_auc = auc[:, defined].mean(1) if defined.any() else auc[:, 0]
        values = {name: metric(counts) for name, metric in measured.items()}
        values |= {
            f'group {name}': confusion.group_recall(counts, ks) for name, ks in groups.items()
        }
        return values | {
            'macro_auc': macro_auc,
            'class recall': confusion.recall(counts),
            'class precision': confusion.precision(counts),
            'class f1': confusion.f1(counts),
            'class auc': auc,
        }

    point = {name: v[0] for name, v in statistic(np.ones((1, len(labels)), np.int64)).items()}
    if num_classes > confusion.MAX_MATRIX_CLASSES:
        areas = point['class auc']
    headline = point_metrics(labels, predictions, areas, ordered=ordered)
    samples = bootstrap(
        labels, statistic, num_classes=num_classes, num_bootstrap=num_bootstrap, seed=seed
    )
    pairs = confusion.count_pairs(labels, predictions)
    test_counts = np.bincount(labels, minlength=num_classes)
    correct = np.bincount(labels[labels == predictions], minlength=num_classes)
    warnings = sample_size_warnings(test_counts, correct, class_names, groups)

    of_classes = {
        figure: intervals(
            np.where(test_counts, point[f'class {figure}'], np.nan), samples[f'class {figure}']
        )
        for figure in ('recall', 'precision', 'f1', 'auc')
    }

    return {
        'num_images': len(labels),
        'metrics': {name: interval(value, samples[name]) for name, value in headline.items()},
        'groups': {
            name: {
                'classes': [class_names[k] for k in classes],
                'recall': interval(point[f'group {name}'], samples[f'group {name}']),
            }
            for name, classes in groups.items()
        },
        'per_class': [
            {
                'name': class_names[k],
                'train_count': int(train_counts[k]),
                'test_count': int(test_counts[k]),
                **{figure: rows[k] for figure, rows in of_classes.items()},
            }
            for k in range(num_classes)
        ],
        'confusion': confusion.to_json(pairs, num_classes),
        'warnings': warnings if ordered else [*warnings, _NO_ORDER],
    }


def sample_size_warnings(
    counts: np.ndarray,
    correct: np.ndarray,
    class_names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
) -> list[str]:
    """Says where a test set is too small for its figures: a few sentences, not one per class.

    Args:
      counts: [K] test images of each class.
      correct: [K] how many of them are recognised.
      class_names: [K] names.
      groups: class indices by group.
    """
    present = [k for k in range(len(counts)) if counts[k]]
    lines = []
    if len(present) < len(counts):
        absent = [class_names[k] for k in range(len(counts)) if not counts[k]]
        lines.append(f'No test images of {listed(absent)}: left out of every average.')
    if len(present) == 1:
        lines.append('Test images of one class only: AUC and kappa are undefined.')
    few = [k for k in present if counts[k] < 100]
    if few:
        worst = min(few, key=lambda k: counts[k])
        lines.append(
            f'{len(few)} of {len(counts)} classes have fewer than 100 test images: one image moves '
            f'their recall by more than one point (by {100 / counts[worst]:.1f} for '
            f'{class_names[worst]}, which has {counts[worst]}).'
        )
    steps = {
        f'{name} recall': _step(counts[[k for k in classes if counts[k]]])
        for name, classes in groups.items()
    }
    steps['balanced accuracy'] = _step(counts[present])
    steps['accuracy'] = 100 / counts.sum()
    coarse = [f'{name} (by {step:.1f})' for name, step in steps.items() if step > 1]
    if coarse:
        lines.append(f'One test image can move by more than one point: {", ".join(coarse)}.')
    certain = [class_names[k] for k in present if correct[k] in (0, counts[k])]
    if certain:
        lines.append(
            f'Recall of {listed(certain)} is exactly 0 or 100 %: resampling cannot widen its '
            'interval, which is no sign of certainty.'
        )
    return lines


def _step(counts: np.ndarray) -> float:
    """Points by which one image of the smallest class moves the mean recall of some classes."""
    return 100 / (counts.min() * len(counts)) if len(counts) else 0.0


def _check(
    labels: np.ndarray,
    logits_shape: tuple[int, ...],
    class_names: Sequence[str],
    train_counts: Sequence[int],
) -> None:
    num_classes = len(class_names)
    if not len(labels):
        raise UserError('the test split has no images: choose a split that has some.')
    if len(set(class_names)) < num_classes:
        raise UserError('two classes have the same name: give each class its own.')
    if logits_shape != (len(labels), num_classes) or len(train_counts) != num_classes:
        raise ValueError(
            f'shapes disagree: {len(labels)} labels, logits {logits_shape}, {num_classes} names, '
            f'{len(train_counts)} training counts'
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f'labels must lie in 0 to {num_classes - 1}')
