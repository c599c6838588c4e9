"""The metrics of a test set, with intervals: `point_metrics` and `evaluate`.

A class without test images has no recall and no AUC. It is left out of every macro average
(balanced accuracy, macro precision, recall, F1 and AUC), so that balanced accuracy and macro recall
are the same number. With test images of one class only, AUC and kappa are undefined.

Not clu.metrics: its collections add up batch after batch, and a resampled interval needs all predictions at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltjax.errors import UserError
from ltjax.evaluation import confusion
from ltjax.evaluation.auc import Ranks, class_aucs, rank
from ltjax.evaluation.bootstrap import bootstrap, clusters_of, intervals
from ltjax.evaluation.probabilities import Probabilities
from ltjax.evaluation.small_samples import (
    clusters_of_classes,
    few_clusters_warnings,
    sample_size_warnings,
)

_NO_ORDER = (
    'No quadratic kappa is given, since it is not known whether the classes have an order: if they '
    'are grades, set --config.data.class_order, or --ordered of ltjax evaluate.'
)


def rank_classes(
    labels: np.ndarray, probabilities: Probabilities
) -> tuple[list[Ranks | None], np.ndarray]:
    """Returns the ranks of each class, and of few classes their areas [K] as scikit-learn has them.

    Those differ from `class_aucs` in the last bit, and the macro AUC of few classes was published
    with it. Of more, scikit-learn takes minutes; there, and where an area is undefined, is NaN.
    """
    from sklearn import metrics as sk

    ranks, areas = [], np.full(probabilities.shape[1], np.nan)
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
    from sklearn import metrics as sk

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
    from sklearn import metrics as sk

    classes = np.arange(num_classes)
    return sk.cohen_kappa_score(labels, predictions, labels=classes, weights='quadratic')


def evaluate(
    labels: np.ndarray,
    scores: np.ndarray | Probabilities,
    *,
    class_names: Sequence[str],
    train_counts: Sequence[int] | None,
    groups: Mapping[str, Sequence[int]],
    belongs_to: np.ndarray | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
    ordered: bool = False,
) -> dict[str, Any]:
    """Evaluates the scores of test images, every number with its 95 % interval (stratified bootstrap).

    Args:
      labels: [n] int true classes.
      scores: logits float [n, K], or probabilities.
      class_names: [K] distinct names.
      train_counts: [K] training images of each class; None where they are not known.
      groups: class indices by group, from `ltjax.evaluation.groups.head_medium_tail`.
      belongs_to: str [n], the patient, lesion or smear of each image, '' where it is alone: resamples draw these
        whole. None: images are taken as independent.
      num_bootstrap: number of resamples.
      seed: seed of the resamples.
      ordered: whether the classes are grades, in the order of their indices. Only then is there a
        quadratic kappa: of other classes it says nothing.

    Returns:
      A JSON-able dict; metrics are fractions {'value', 'low', 'high'}, all None where undefined:
      'num_images'; 'num_groups', of patients, lesions or smears, None where images are taken as
      independent; 'metrics', by name as in `point_metrics`; 'groups', by name {'classes': names,
      'recall'}, the mean recall of the group's classes with test images; 'per_class', a list of
      {'name', 'train_count', 'test_count', 'test_groups' (of how many of those groups its images are, or
      None), 'recall', 'precision', 'f1', 'auc'}; 'confusion', counts by true and predicted class, [K][K]
      or with many classes the occupied cells alone, see `ltjax.evaluation.confusion.to_json`;
      'warnings', sentences.

    Raises:
      UserError: there are no images, a logit is not finite, or two classes share a name.
      ValueError: the shapes do not agree or a label is out of range.
    """
    labels = np.asarray(labels)
    probabilities = scores if isinstance(scores, Probabilities) else Probabilities(scores)
    _check(labels, probabilities.shape, class_names, train_counts)
    clusters = clusters_of(belongs_to)
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
        labels,
        statistic,
        num_classes=num_classes,
        clusters=clusters,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    pairs = confusion.count_pairs(labels, predictions)
    test_counts = np.bincount(labels, minlength=num_classes)
    correct = np.bincount(labels[labels == predictions], minlength=num_classes)
    warnings = sample_size_warnings(test_counts, correct, class_names, groups)
    test_groups: list[int | None] = [None] * num_classes
    numbers = test_counts
    if clusters is not None:
        numbers = clusters_of_classes(labels, clusters, num_classes)
        warnings += few_clusters_warnings(numbers, class_names)
        test_groups = numbers.tolist()

    of_classes = {
        figure: intervals(
            np.where(test_counts, point[f'class {figure}'], np.nan),
            samples[f'class {figure}'],
            np.maximum(numbers - 1, 1),
        )
        for figure in ('recall', 'precision', 'f1', 'auc')
    }

    return {
        'num_images': len(labels),
        'num_groups': None if clusters is None else int(clusters.max()) + 1,
        'metrics': {name: samples.interval(name, value) for name, value in headline.items()},
        'groups': {
            name: {
                'classes': [class_names[k] for k in classes],
                'recall': samples.interval(f'group {name}', point[f'group {name}']),
            }
            for name, classes in groups.items()
        },
        'per_class': [
            {
                'name': class_names[k],
                'train_count': None if train_counts is None else int(train_counts[k]),
                'test_count': int(test_counts[k]),
                'test_groups': test_groups[k],
                **{figure: rows[k] for figure, rows in of_classes.items()},
            }
            for k in range(num_classes)
        ],
        'confusion': confusion.to_json(pairs, num_classes),
        'warnings': warnings if ordered else [*warnings, _NO_ORDER],
    }


def _check(
    labels: np.ndarray,
    shape: tuple[int, ...],
    class_names: Sequence[str],
    train_counts: Sequence[int] | None,
) -> None:
    num_classes = len(class_names)
    if not len(labels):
        raise UserError('the test split has no images: choose a split that has some.')
    if len(set(class_names)) < num_classes:
        raise UserError('two classes have the same name: give each class its own.')
    counts = num_classes if train_counts is None else len(train_counts)
    if shape != (len(labels), num_classes) or counts != num_classes:
        raise ValueError(
            f'shapes disagree: {len(labels)} labels, scores {shape}, {num_classes} names, '
            f'{counts} training counts'
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f'labels must lie in 0 to {num_classes - 1}')
