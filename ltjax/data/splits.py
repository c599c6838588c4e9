"""Splits without leaks: per class, and never across a group (lesion, patient, smear)."""

import hashlib
import math
import warnings
from collections.abc import Mapping

import numpy as np

from ltjax.errors import UserError
from ltjax.written.values import SPLITS

NAMES = SPLITS


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
    from sklearn.model_selection import StratifiedGroupKFold

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
            dealt = [held for _, held in splitter.split(np.zeros((len(labels), 1)), labels, groups)]
        except ValueError as error:
            raise UserError(
                f'the groups cannot be split ({error}): give a column of splits.'
            ) from None
    wished = fraction * len(labels)
    if len(dealt[0]) <= 2 * wished + 1:
        return dealt[0]
    # A group of very many images is in it, which are better trained on.
    return min(dealt, key=lambda held: abs(len(held) - wished))


def split(
    labels: np.ndarray, groups: np.ndarray | None, *, val: float, test: float, seed: int
) -> np.ndarray:
    """Splits images into train, val and test.

    With groups, a class that would have no training image is given one group to train on, if there is one to spare.

    Args:
      labels: int [N].
      groups: int or str [N]; images of one group stay on one side; one whose group is '' is its own. None: all are.
      val: fraction held out for validation.
      test: fraction held out for the test.
      seed: chooses the split; the same on every machine.

    Returns:
      str [N]: 'train', 'val' or 'test'.

    Raises:
      UserError: fractions that leave nothing to train on, or too few groups.
    """
    if not (0 < val < 1 and 0 < test < 1 and val + test < 1):
        raise UserError(
            f'split fractions val={val} and test={test} must be above 0 and sum below 1.'
        )
    if groups is not None and not np.issubdtype(groups.dtype, np.integer) and (groups == '').any():
        groups = _numbered(groups)
    left = np.arange(len(labels))
    part = np.zeros(len(labels), np.int32)
    rng = np.random.Generator(np.random.PCG64(seed))
    for name, fraction in (('test', test), ('val', val / (1 - test))):
        if groups is None:
            held = _stratified(labels[left], fraction, rng)
        else:
            held = _grouped(labels[left], groups[left], fraction, seed)
        part[left[held]] = NAMES.index(name)
        left = np.delete(left, held)
    if groups is not None:
        part = _to_train_on(labels, np.unique(groups, return_inverse=True)[1], part)
    return np.array(NAMES)[part]


def hold_out(
    labels: np.ndarray, groups: np.ndarray | None, *, fraction: float, seed: int
) -> np.ndarray:
    """Holds validation images out of training images, `fraction` of every class, whole groups together.

    A class too small for that stays in training: of fewer than three images, or, with groups, of one group.

    Args:
      labels: int [N].
      groups: as in `split`.
      fraction: above 0 and below 1.
      seed: chooses them; the same on every machine.

    Returns:
      str [N]: 'train' or 'val'.

    Raises:
      UserError: another fraction, or one group alone.
    """
    if not 0 < fraction < 1:
        raise UserError(f'data.split.val is {fraction}: it should be above 0 and below 1.')
    if groups is not None:
        return protocol(labels, groups, fractions=(1 - fraction, fraction, 0.0), seed=seed)
    named = np.full(len(labels), 'train')
    rng = np.random.Generator(np.random.PCG64(seed))
    named[_stratified(labels, fraction, rng)] = 'val'
    return named


def k_fold(labels: np.ndarray, groups: np.ndarray | None, *, folds: int, seed: int) -> np.ndarray:
    """Deals images into folds that hold equal shares of every class, whole groups together.

    Without groups a class differs by at most one image from fold to fold, and so do the folds. With
    groups they are dealt as scikit-learn's StratifiedGroupKFold deals them, from the largest on,
    each to the fold where the classes stay most even; written out so that it does not depend on a version.

    Args:
      labels: int [N].
      groups: int or str [N] as in `split`; images whose group is '' are each their own. None: all are.
      folds: at least 2.
      seed: chooses the folds; the same on every machine.

    Returns:
      int32 [N], the fold of every image, from 0.

    Raises:
      UserError: less than 2 folds, or more than there are images or groups.
    """
    if not 2 <= folds <= len(labels):
        raise UserError(
            f'{folds} folds of {len(labels)} images: give 2 or more, not above {len(labels)}.'
        )
    if groups is not None:
        return _deal(labels, groups, np.full(folds, 1 / folds), seed)
    dealt = np.empty(len(labels), np.int32)
    order = np.concatenate([_shuffled(labels, label, seed) for label in np.unique(labels)])
    dealt[order] = np.arange(len(labels)) % folds
    return dealt


def protocol(
    labels: np.ndarray,
    groups: np.ndarray | None,
    *,
    fractions: tuple[float, float, float],
    seed: int,
) -> np.ndarray:
    """Names the split of every image by fixed fractions of every class, whole groups together.

    Without groups the test part has ceil(fraction N) images, and the classes share them in
    proportion, by largest remainder (ties: the smaller class index); then validation likewise out of
    the rest. A class of three or more images has one in each part at least, and any class one to train
    on. With groups the fractions are met as nearly as whole groups allow, in every class; a class
    that would have nothing to train on is given a group.

    Args:
      labels: int [N].
      groups: as in `k_fold`.
      fractions: of train, val and test; they sum to 1; that of val or test may be 0.
      seed: chooses the split; the same on every machine.

    Returns:
      str [N]: 'train', 'val' or 'test'.

    Raises:
      UserError: other fractions, or fewer groups than parts.
    """
    train, val, test = fractions
    if not (train > 0 <= min(val, test) and math.isclose(train + val + test, 1)):
        raise UserError(
            f'fractions {fractions} of train, val and test must sum to 1, train above 0.'
        )
    if groups is not None:
        shares = np.array(fractions)
        part = _deal(labels, groups, shares[shares > 0], seed)
        return np.array(NAMES)[shares > 0][_to_train_on(labels, _numbered(groups), part)]
    named = np.full(len(labels), 'train', '<U5')
    classes, counts = np.unique(labels, return_counts=True)
    tested = _apportion(counts, test, len(labels), spare=1 + (val > 0))
    held = tested + _apportion(counts - tested, val, len(labels), spare=1)
    for label, first, last in zip(classes, tested, held, strict=True):
        members = _shuffled(labels, label, seed)
        named[members[:first]], named[members[first:last]] = 'test', 'val'
    return named


def _shuffled(labels: np.ndarray, label: int, seed: int) -> np.ndarray:
    """Returns the images of a class in an order that the other classes have no part in."""
    rng = np.random.Generator(np.random.PCG64([seed, int(label)]))
    return rng.permutation(np.flatnonzero(labels == label))


def _apportion(counts: np.ndarray, fraction: float, whole: int, spare: int) -> np.ndarray:
    """Takes ceil(fraction * whole) images out of classes by largest remainder, leaving some where there are few."""
    if fraction == 0:
        return np.zeros_like(counts)
    # The product is rounded first: 0.7 * 10 lies a hair above 7.
    total = min(math.ceil(round(fraction * whole, 6)), int(counts.sum()))
    taken, remainders = np.divmod(counts * total, counts.sum())
    taken[np.argsort(-remainders, kind='stable')[: total - taken.sum()]] += 1
    return np.minimum(np.maximum(taken, counts > spare), np.maximum(counts - spare, 0))


def _numbered(groups: np.ndarray) -> np.ndarray:
    """Returns the number of every image's group; images whose group is '' are each their own."""
    names, group = np.unique(groups.astype(str), return_inverse=True)
    if names[0] == '':
        unknown = group == 0
        group[unknown] = len(names) + np.arange(unknown.sum())
        _, group = np.unique(group, return_inverse=True)
    return group


def _to_train_on(labels: np.ndarray, group: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Moves a group into part 0 for each class that has no image there; int32 [N].

    Of the groups with the class, one after which the class is still on the other side is preferred, then the
    smallest, then the first. No side is emptied: a class without such a group stays as it is.
    """
    part = part.copy()
    for label in np.unique(labels):
        if np.any(part[labels == label] == 0):
            continue
        candidates = []
        for g in np.unique(group[labels == label]).tolist():
            moved = group == g
            stays = (part == part[moved][0]) & ~moved
            if stays.any():
                candidates.append((not np.any(labels[stays] == label), int(moved.sum()), g))
        if candidates:
            part[group == min(candidates)[2]] = 0
    return part


def _deal(labels: np.ndarray, groups: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Deals whole groups into parts so that each holds its share of every class; int32 [N]."""
    classes, label = np.unique(labels, return_inverse=True)
    group = _numbered(groups)
    counts = np.zeros((group.max() + 1, len(classes)), np.int64)
    np.add.at(counts, (group, label), 1)
    if len(counts) < len(shares):
        raise UserError(
            f'{len(counts)} groups cannot be dealt into {len(shares)} parts: give more groups.'
        )
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(counts))
    order = order[np.argsort(-counts.sum(1)[order], kind='stable')]
    weights = 1 / np.square(counts.sum(0), dtype=np.float64)
    held = np.zeros((len(shares), len(classes)), np.int64)
    part = np.empty(len(counts), np.int32)
    for g in order:
        # By how much this group raises, in each part, the squared deviation from the parts' shares.
        cost = ((2 * held + counts[g]) * counts[g] * weights).sum(1) / shares
        # Rounded, so that equal costs are equal on every machine; then the emptier part is taken.
        ties = np.flatnonzero(np.round(cost / cost.min(), 9) == 1)
        part[g] = ties[np.argmin(held[ties].sum(1) / shares[ties])]
        held[part[g]] += counts[g]
    return part[group]


def fingerprint(parts: Mapping[str, np.ndarray], ids: np.ndarray) -> str:
    """Returns the sha256 of a split: equal if and only if every image lies on the same side."""
    digest = hashlib.sha256()
    for name in NAMES:
        digest.update(f'{name}:{",".join(sorted(ids[parts[name]]))};'.encode())
    return digest.hexdigest()
