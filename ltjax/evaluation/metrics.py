"""The metrics of a test set, with intervals: `point_metrics` and `evaluate`.

A class without test images has no recall and no AUC. It is left out of every macro average
(balanced accuracy, macro precision, recall, F1 and AUC), so that balanced accuracy and macro recall
are the same number. With test images of one class only, AUC and kappa are undefined.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn import metrics as sk

from ltjax.errors import UserError
from ltjax.evaluation import confusion
from ltjax.evaluation.bootstrap import bootstrap, interval, weighted_auc, weighted_confusions


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns float64 probabilities [n, K] of logits [n, K]; UserError if one is not finite."""
    logits = np.asarray(logits, np.float64)
    finite = np.isfinite(logits).all(axis=-1)
    if not finite.all():
        raise UserError(
            f'logits of {np.count_nonzero(~finite)} of {len(logits)} images are not finite: '
            'training diverged; lower the learning rate or clip the gradients.'
        )
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def class_auc(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns [K] one-vs-rest areas under the ROC curve, NaN where a side has no images."""
    auc = np.full(probabilities.shape[1], np.nan)
    present = np.unique(labels)
    for k in present if len(present) > 1 else ():
        auc[k] = sk.roc_auc_score(labels == k, probabilities[:, k])
    return auc


def point_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Computes the headline metrics, as fractions.

    Args:
      labels: [n] int true classes.
      probabilities: [n, K] float class probabilities.

    Returns:
      accuracy, balanced_accuracy, macro_f1, macro_precision, macro_recall, macro_auc (one against
      the rest) and quadratic_kappa (of the class indices, so it means something only where these
      are grades). See the module for absent classes; an undefined metric is NaN.
    """
    predictions = probabilities.argmax(-1)
    present = np.unique(labels)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        labels, predictions, labels=present, average='macro', zero_division=0
    )
    several = len(present) > 1
    kappa = np.nan
    if several:
        classes = np.arange(probabilities.shape[1])
        kappa = sk.cohen_kappa_score(labels, predictions, labels=classes, weights='quadratic')
    values = {
        'accuracy': sk.accuracy_score(labels, predictions),
        'balanced_accuracy': recall,
        'macro_f1': f1,
        'macro_precision': precision,
        'macro_recall': recall,
        'macro_auc': np.nanmean(class_auc(labels, probabilities)) if several else np.nan,
        'quadratic_kappa': kappa,
    }
    return {name: float(value) for name, value in values.items()}


def evaluate(
    labels: np.ndarray,
    logits: np.ndarray,
    *,
    class_names: Sequence[str],
    train_counts: Sequence[int],
    groups: Mapping[str, Sequence[int]],
    num_bootstrap: int = 1000,
    seed: int = 0,
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

    Returns:
      A JSON-able dict; metrics are fractions {'value', 'low', 'high'}, all None where undefined:
      'num_images'; 'metrics', by name as in `point_metrics`; 'groups', by name {'classes': names,
      'recall'}, the mean recall of the group's classes with test images; 'per_class', a list of
      {'name', 'train_count', 'test_count', 'recall', 'precision', 'f1', 'auc'}; 'confusion', [K][K]
      counts by true and predicted class; 'warnings', sentences.

    Raises:
      UserError: there are no images, a logit is not finite, or two classes share a name.
      ValueError: the shapes do not agree or a label is out of range.
    """
    labels = np.asarray(labels)
    _check(labels, np.shape(logits), class_names, train_counts)
    probabilities = softmax(logits)
    predictions = probabilities.argmax(-1)
    num_classes = len(class_names)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        confusions = weighted_confusions(weights, labels, predictions, num_classes)
        auc = np.stack(
            [weighted_auc(weights, labels == k, probabilities[:, k]) for k in range(num_classes)],
            axis=1,
        )
        defined = ~np.isnan(auc[0])
        macro_auc = auc[:, defined].mean(1) if defined.any() else auc[:, 0]
        values = {name: metric(confusions) for name, metric in confusion.METRICS.items()}
        values |= {
            f'group {name}': confusion.group_recall(confusions, ks) for name, ks in groups.items()
        }
        return values | {
            'macro_auc': macro_auc,
            'class recall': confusion.recall(confusions),
            'class precision': confusion.precision(confusions),
            'class f1': confusion.f1(confusions),
            'class auc': auc,
        }

    point = {name: v[0] for name, v in statistic(np.ones((1, len(labels)), np.int64)).items()}
    headline = point_metrics(labels, probabilities)
    samples = bootstrap(
        labels, statistic, num_classes=num_classes, num_bootstrap=num_bootstrap, seed=seed
    )
    matrix = sk.confusion_matrix(labels, predictions, labels=np.arange(num_classes))
    test_counts = matrix.sum(1)

    def of_class(figure: str, k: int) -> dict[str, float | None]:
        value = point[f'class {figure}'][k] if test_counts[k] else np.nan
        return interval(value, samples[f'class {figure}'][:, k])

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
                **{figure: of_class(figure, k) for figure in ('recall', 'precision', 'f1', 'auc')},
            }
            for k in range(num_classes)
        ],
        'confusion': matrix.tolist(),
        'warnings': sample_size_warnings(matrix, class_names, groups),
    }


def sample_size_warnings(
    matrix: np.ndarray, class_names: Sequence[str], groups: Mapping[str, Sequence[int]]
) -> list[str]:
    """Says where a test set is too small for its figures: a few sentences, not one per class.

    Args:
      matrix: [K, K] confusion counts, rows the true class.
      class_names: [K] names.
      groups: class indices by group.
    """
    counts = matrix.sum(1)
    present = [k for k in range(len(counts)) if counts[k]]
    lines = []
    if len(present) < len(counts):
        absent = [class_names[k] for k in range(len(counts)) if not counts[k]]
        lines.append(f'No test images of {_listed(absent)}: left out of every average.')
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
    correct = np.diagonal(matrix)
    certain = [class_names[k] for k in present if correct[k] in (0, counts[k])]
    if certain:
        lines.append(
            f'Recall of {_listed(certain)} is exactly 0 or 100 %: resampling cannot widen its '
            'interval, which is no sign of certainty.'
        )
    return lines


def _step(counts: np.ndarray) -> float:
    """Points by which one image of the smallest class moves the mean recall of some classes."""
    return 100 / (counts.min() * len(counts)) if len(counts) else 0.0


def _listed(names: Sequence[str], at_most: int = 4) -> str:
    more = f' and {len(names) - at_most} more' if len(names) > at_most else ''
    return ', '.join(names[:at_most]) + more


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
