"""A data set: what its files hold, checked, split and, if asked for, made long-tailed."""

import dataclasses
from typing import Any

import numpy as np

from ltjax.data import long_tail, splits
from ltjax.data.loading import Excluded
from ltjax.data.readers import Images, Raw, read
from ltjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A classification set.

    Attributes:
      images: uint8 [N, H, W, C], in memory or, for large prepared sets, on disk.
      labels: int32 [N], 0 to K-1.
      ids: str [N], unique.
      class_names: the K names.
      parts: indices of 'train', 'val' and 'test' into the arrays above.
      num_folds: of which the test part is one; 0 where it is not a fold.
      excluded: files that were left out, since they cannot be read (`config.on_damaged`).
    """

    images: Images
    labels: np.ndarray
    ids: np.ndarray
    class_names: tuple[str, ...]
    parts: dict[str, np.ndarray]
    num_folds: int = 0
    excluded: tuple[Excluded, ...] = ()

    @property
    def train_counts(self) -> np.ndarray:
        """Training images of each class, int64 [K]."""
        return np.bincount(self.labels[self.parts['train']], minlength=len(self.class_names))

    def images_of(self, part: str) -> Images:
        """Returns the images of a part, in memory or on disk as all are."""
        rows = self.parts[part]
        if isinstance(self.images, np.ndarray):
            return self.images[rows]
        return self.images.select(rows)


def load(config: Any) -> DataSet:
    """Loads the set that the `data` part of a config describes.

    Raises:
      UserError: a missing or unreadable file, labels out of range, an empty split, a class without a
        training image, mixed sizes: always one line that names the thing and the remedy.
    """
    raw = read(config)
    where = config.path or config.name
    if raw.labels is None:
        raise UserError(f'{where} has no labels: training needs them.')
    labels, names = check_labels(raw.labels, raw.class_names, where)
    if len(names) < 2:
        raise UserError(f'{where} has one class: classification needs two or more.')
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise UserError(f'{where} has two classes {double!r}: give each class its own name.')
    parts, num_folds = _parts(raw, labels, config.split, where)
    for name, part in parts.items():
        if len(part) == 0:
            raise UserError(f'the {name} split of {where} is empty: mark some images as {name}.')
    if config.long_tail.ratio:
        parts['train'] = _make_long_tailed(labels, parts['train'], len(names), config)
    counts = np.bincount(labels[parts['train']], minlength=len(names))
    if (counts == 0).any():
        absent = names[int(np.argmin(counts))]
        raise UserError(
            f'class {absent!r} of {where} has no training image: add one or drop the class.'
        )
    return DataSet(raw.images, labels, raw.ids, names, parts, num_folds, raw.excluded)


def _parts(
    raw: Raw, labels: np.ndarray, settings: Any, where: str
) -> tuple[dict[str, np.ndarray], int]:
    """Returns the files' own split, one of their or our folds, or a split drawn; and the number of folds."""
    if raw.split is not None and settings.folds:
        raise UserError(
            f'{where} brings its own split, which folds would break: '
            'leave --config.data.split.folds and .fold at 0.'
        )
    if raw.split is not None and not np.char.isdigit(raw.split.astype(str)).all():
        return splits.from_column(raw.split), 0
    if raw.split is not None:
        folds = raw.split.astype(np.int64)
    elif settings.folds:
        folds = splits.k_fold(labels, raw.groups, folds=settings.folds, seed=settings.seed)
    else:
        drawn = splits.split(
            labels, raw.groups, val=settings.val, test=settings.test, seed=settings.seed
        )
        return drawn, 0
    count = int(folds.max()) + 1
    if not 0 <= settings.fold < count:
        raise UserError(f'fold {settings.fold} of {count}: data.split.fold is 0 to {count - 1}.')
    left = np.flatnonzero(folds != settings.fold)
    share = settings.val * len(labels) / len(left)
    named = splits.protocol(
        labels[left],
        None if raw.groups is None else raw.groups[left],
        fractions=(1 - share, share, 0.0),
        seed=settings.seed,
    )
    parts = {name: left[named == name] for name in ('train', 'val')}
    return parts | {'test': np.flatnonzero(folds == settings.fold)}, count


def check_labels(
    labels: np.ndarray, names: tuple[str, ...] | None, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns labels int32 [N] and the class names, made up where the files bring none.

    Raises:
      UserError: labels that are no integers from 0, more than one an image, or out of range.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f'labels of {where} are {labels.dtype}: they should be integers from 0.')
    labels = labels.reshape(len(labels), -1)
    if labels.shape[1] != 1:
        raise UserError(f'{where} has {labels.shape[1]} labels an image: it should have one.')
    labels = labels[:, 0]
    if names is None:
        names = tuple(f'class {k}' for k in range(int(labels.max()) + 1))
    if labels.min() < 0 or labels.max() >= len(names):
        bad = int(labels.min()) if labels.min() < 0 else int(labels.max())
        raise UserError(
            f'label {bad} of {where} is out of range: labels are 0 to {len(names) - 1}.'
        )
    return labels.astype(np.int32), names


def _make_long_tailed(
    labels: np.ndarray, train: np.ndarray, num_classes: int, config: Any
) -> np.ndarray:
    """Thins the training split to an exponential long tail that follows the classes' own order of size."""
    settings = config.long_tail
    if settings.max_count < 1:
        raise UserError('data.long_tail.ratio needs data.long_tail.max_count, the largest class.')
    sizes = long_tail.exponential_counts(settings.max_count, num_classes, settings.ratio)
    order = np.argsort(-np.bincount(labels[train], minlength=num_classes), kind='stable')
    counts = np.zeros(num_classes, np.int64)
    counts[order] = sizes
    return train[long_tail.subsample(labels[train], counts, config.split.seed)]
