"""What a test set is too small to say."""

from collections.abc import Mapping, Sequence

import numpy as np

from ltjax.evaluation.table import listed

# With fewer patients (lesions, smears) than this an interval of a class says little.
FEW = 10


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


def clusters_of_classes(labels: np.ndarray, clusters: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns from how many groups the images of each class come, int [K].

    Args:
      labels: [n] int true classes.
      clusters: [n] ints, equal for images that belong together.
      num_classes: K.
    """
    pairs = np.unique(np.stack([labels, clusters]), axis=1)
    return np.bincount(pairs[0], minlength=num_classes)


def few_clusters_warnings(numbers: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Says which classes come from few groups of images, whatever their number of images.

    Args:
      numbers: [K] from `clusters_of_classes`.
      class_names: [K] names.
    """
    few = [k for k in np.argsort(numbers, kind='stable') if 0 < numbers[k] < FEW]
    if not few:
        return []
    named = listed([f'{class_names[k]} ({numbers[k]})' for k in few])
    line = (
        f'Images of {named} come from fewer than {FEW} groups (patients, lesions, smears): intervals '
        'of these classes are likely too narrow.'
    )
    return [line]
