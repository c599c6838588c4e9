"""Splits without leaks: per class, and never across a group (lesion, patient, smear)."""

import hashlib
import warnings
from collections.abc import Mapping

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from ltjax.errors import UserError

NAMES = ('train', 'val', 'test')


def _stratified(labels: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Draws `fraction` of every class, at least one image where a class has three or more."""
    held = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        count = round(fraction * len(members))
        held.append(members[: max(count, 1) if len(members) >= 3 else count])
    return np.sort(np.concatenate(held))


def _grouped(labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Draws whole groups that hold about `fraction` of every class."""
    folds = max(2, round(1 / fraction))
    if len(np.unique(groups)) < folds:
        raise UserError(
            f'{len(np.unique(groups))} groups cannot be split into {folds} parts: '
            'give more groups or a column of splits.'
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A tail class with fewer images than folds is no mistake.
        warnings.filterwarnings('ignore', 'The least populated class', UserWarning)
        try:
            return next(splitter.split(np.zeros((len(labels), 1)), labels, groups))[1]
        except ValueError as error:
            raise UserError(
                f'the groups cannot be split ({error}): give a column of splits.'
            ) from None


def split(
    labels: np.ndarray, groups: np.ndarray | None, *, val: float, test: float, seed: int
) -> dict[str, np.ndarray]:
    """Splits images into train, val and test.

    Args:
      labels: int [N].
      groups: int or str [N]; images of one group stay on one side. None: every image is its own group.
      val: fraction held out for validation.
      test: fraction held out for the test.
      seed: chooses the split; the same on every machine.

    Returns:
      Sorted int64 indices by split name.

    Raises:
      UserError: fractions that leave nothing to train on, or too few groups.
    """
    if not (0 < val < 1 and 0 < test < 1 and val + test < 1):
        raise UserError(
            f'split fractions val={val} and test={test} must be above 0 and sum below 1.'
        )
    left = np.arange(len(labels))
    parts = {}
    rng = np.random.Generator(np.random.PCG64(seed))
    for name, fraction in (('test', test), ('val', val / (1 - test))):
        if groups is None:
            held = _stratified(labels[left], fraction, rng)
        else:
            held = _grouped(labels[left], groups[left], fraction, seed)
        parts[name] = left[held]
        left = np.delete(left, held)
    return {'train': left, 'val': parts['val'], 'test': parts['test']}


def from_column(column: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the indices of each split, given the split's name of every image.

    Raises:
      UserError: a name other than train, val or test.
    """
    strange = sorted(set(np.unique(column)) - set(NAMES))
    if strange:
        raise UserError(f'unknown split {str(strange[0])!r}: use train, val or test.')
    return {name: np.flatnonzero(column == name) for name in NAMES}


def fingerprint(parts: Mapping[str, np.ndarray], ids: np.ndarray) -> str:
    """Returns the sha256 of a split: equal if and only if every image lies on the same side."""
    digest = hashlib.sha256()
    for name in NAMES:
        digest.update(f'{name}:{",".join(sorted(ids[parts[name]]))};'.encode())
    return digest.hexdigest()
