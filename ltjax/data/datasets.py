"""A data set: what its files hold, checked, split and, if asked for, made long-tailed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ltjax.data import cache, long_tail, reading, splits
from ltjax.data.indivisible import Units
from ltjax.data.reading import Images, Raw
from ltjax.data.reading.images import shows_something
from ltjax.data.reading.table import Column, Excluded, Table
from ltjax.data.settings import Data, Split
from ltjax.errors import UserError
from ltjax.written import values


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """Which image is trained on, which one is held out, and who decided so.

    Attributes:
      parts: indices of 'train', 'val' and 'test' into the images that were read.
      folds: the numbers of all folds, of which the test part is one; () where it is not a fold.
      split_from: where the split comes from, in words.
      leaks: by what is shared ('groups', 'sets of equal images'), how many lie on two sides, where that was allowed.
      thinned: training images that were left out to make a long tail.
      conflicts: sets of equal images that have several labels.
    """

    parts: dict[str, np.ndarray]
    folds: tuple[int, ...] = ()
    split_from: str = ''
    leaks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    thinned: int = 0
    conflicts: int = 0


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A classification set.

    Attributes:
      images: uint8 [N, H, W, C], in memory or, for large prepared sets, on disk.
      labels: int32 [N], 0 to K-1.
      ids: str [N], unique.
      class_names: the K names.
      raw: all that was read.
      arrangement: how it was split.
    """

    images: Images
    labels: np.ndarray
    ids: np.ndarray
    class_names: tuple[str, ...]
    raw: Raw
    arrangement: Arrangement

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """Indices of 'train', 'val' and 'test' into the arrays."""
        return self.arrangement.parts

    @property
    def table(self) -> Table:
        return self.raw.table

    @property
    def groups(self) -> np.ndarray | None:
        """The patient, lesion or smear of each image, str [N], '' where there is none; None if no image has one."""
        return None if self.raw.groups is None else self.raw.groups.astype(np.str_)

    @property
    def columns(self) -> dict[str, Column]:
        """What `data.further` names, by name: codes int32 [N], -1 for none, and the names of the values."""
        return {name: column.of(self.raw.rows) for name, column in self.table.columns.items()}

    @property
    def excluded(self) -> tuple[Excluded, ...]:
        """What was left out: images that cannot be read or have no label, where the config says so."""
        return self.raw.excluded

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


def load(config: Data | Mapping[str, Any]) -> DataSet:
    """Loads the set that the `data` part of a config describes.

    Raises:
      UserError: a missing or unreadable file, labels missing or out of range, an empty split, a group on two sides
        of it, a class without a training image, mixed sizes: always one line that names the thing and the remedy.
    """
    config = Data.of(config)
    table = reading.survey(config)
    check(table)
    remedy = f', or take --config.data.image_size={table.written.side}'
    table.refuse_enlarging(config.image_size, remedy)
    raw = reading.read(config, table, load=cache.load)
    arrangement = arrange(table, raw.rows, raw.digests, config)
    labels = np.asarray(raw.labels)
    return DataSet(raw.images, labels, raw.ids, raw.class_names, raw, arrangement)


def check(table: Table) -> None:
    """Raises UserError for what stops a training whatever the images are."""
    table.refuse()
    if table.labels is None:
        raise UserError(f'{table.where} has no labels: training needs them.')
    if len(table.class_names) < 2:
        raise UserError(f'{table.where} has one class: classification needs two or more.')


def folds(config: Data | Mapping[str, Any]) -> tuple[int, ...]:
    """Returns the numbers of the folds that the `data` part of a config describes, () if it describes none.

    Raises:
      UserError: as `load`, as far as that is known before the images are read.
    """
    config = Data.of(config)
    table = reading.survey(config)
    check(table)
    protocol = table.protocol(config.split.protocol)
    numbers = _fold_numbers(table.splits[protocol]) if protocol else range(config.split.folds)
    rows = table.used(protocol)
    for number in numbers:  # a fold that cannot be trained stops the first one already
        split = dataclasses.replace(config.split, fold=number)
        arrange(table, rows, np.full(len(rows), ''), config.replace(split=split))
    return tuple(numbers)


def arrange(table: Table, rows: np.ndarray, digests: np.ndarray, config: Data) -> Arrangement:
    """Splits the images that were read.

    Args:
      table: of the set; `check` has passed it.
      rows: int64 [N], those of the table that were read.
      digests: str [N], see `images.digest`; '' where it is not known.
      config: the `data` part of a config.

    Raises:
      UserError: as `load`.
    """
    labels = np.asarray(table.labels)[rows]
    groups = None if table.groups is None else table.groups[rows]
    where, settings = table.where, config.split
    protocol = table.protocol(settings.protocol)
    if protocol and settings.folds:
        raise UserError(
            f'{where} brings its own split, which folds would break: '
            'leave --config.data.split.folds and .fold at 0.'
        )
    units = Units(labels, groups, np.where(shows_something(digests), digests, ''))
    numbers, leaks = tuple[int, ...](), dict[str, int]()
    if protocol:
        of = table.splits[protocol][rows]
        numbers, leaks = _fold_numbers(of), _leaks(table, rows, of, units, settings)
        split_from = table.written.split_from
        split_from += f' {protocol}' if table.written.layout == 'prepared' else ''
    elif settings.folds:
        of = units.deal(lambda y, g: splits.k_fold(y, g, folds=settings.folds, seed=settings.seed))
        of, numbers = of.astype(np.str_), tuple(range(settings.folds))
        split_from = f'{settings.folds} folds drawn with data.split.seed={settings.seed}'
    else:
        of = units.deal(
            lambda y, g: splits.split(
                y, g, val=settings.val, test=settings.test, seed=settings.seed
            )
        )
        split_from = f'drawn with data.split.seed={settings.seed}'
    if numbers:
        of = _one_fold(of, numbers, units, settings)
        split_from += f'; fold {settings.fold} is the test'
    parts = {name: np.flatnonzero(of == name) for name in values.SPLITS}
    without_val = bool(protocol and not numbers and 'val' not in table.splits[protocol])
    if without_val and settings.val and len(parts['test']):
        # The files bring no validation images: they are held out of those to train on.
        parts |= _held_out(parts['train'], units, settings)
        split_from += f'; {settings.val:.0%} of its training images are held out for validation'
    for name in ('train', 'test', 'val'):
        if len(parts[name]) == 0 and not (name == 'val' and without_val):
            raise UserError(_empty(table, name, parts))
    before = len(parts['train'])
    if config.long_tail.ratio:
        parts['train'] = _make_long_tailed(labels, parts['train'], len(table.class_names), config)
    counts = np.bincount(labels[parts['train']], minlength=len(table.class_names))
    if (counts == 0).any():
        absent = table.class_names[int(np.argmin(counts))]
        raise UserError(
            f'class {absent!r} of {where} has no training image: add one or drop the class.'
        )
    thinned, conflicts = before - len(parts['train']), units.conflicts()
    return Arrangement(parts, numbers, split_from, leaks, thinned, conflicts)


def _fold_numbers(of: np.ndarray) -> tuple[int, ...]:
    """Returns the numbers of the folds in a column of a split, sorted; () if it names train, val and test."""
    sides = sorted(set(of.tolist()) - {''})
    return () if set(sides) & set(values.SPLITS) else tuple(sorted(map(int, sides)))


def _one_fold(
    of: np.ndarray, numbers: tuple[int, ...], units: Units, settings: Split
) -> np.ndarray:
    """Returns the sides when one fold is the test: a share of the others is held out for validation."""
    if settings.fold not in numbers:
        raise UserError(
            f'fold {settings.fold} of {len(numbers)}: data.split.fold is one of '
            f'{values.listed(numbers, 20)}.'
        )
    sides = np.where(of == str(settings.fold), 'test', 'train').astype('<U5')
    left = np.flatnonzero(sides == 'train')
    if len(left) == 0:
        raise UserError('there is one fold: give two or more, or train, val and test.')
    share = settings.val * len(sides) / len(left)
    sides[left] = units.of(left).deal(
        lambda y, g: splits.protocol(y, g, fractions=(1 - share, share, 0.0), seed=settings.seed)
    )
    return sides


def _held_out(train: np.ndarray, units: Units, settings: Split) -> dict[str, np.ndarray]:
    held = units.of(train).deal(
        lambda y, g: splits.hold_out(y, g, fraction=settings.val, seed=settings.seed)
    )
    return {name: train[held == name] for name in ('train', 'val')}


def _leaks(
    table: Table, rows: np.ndarray, of: np.ndarray, units: Units, settings: Any
) -> dict[str, int]:
    """Returns by what is shared how much of it lies on two sides of a split that the files bring.

    Raises:
      UserError: there is such, and neither is it allowed nor a published protocol, chosen by its name.
    """
    found = {}
    for what, (crossing, first) in units.crossing(of).items():
        found[what] = crossing
        if settings.allow_leaks or table.written.published:
            continue
        one, other = (f'{table.ids[rows[at]]} ({of[at]})' for at in first)
        raise UserError(
            f'{crossing} {what} lie on two sides of the split of {table.where}, as {one} and {other}: the test '
            'would lie. Put each on one side (python -m ltjax.data.audit --write-split FILE.csv draws one so), or '
            'draw one with --config.data.split.protocol=none; --config.data.split.allow_leaks=True trains regardless.'
        )
    return found


def _empty(table: Table, name: str, parts: Mapping[str, np.ndarray]) -> str:
    """Returns what is said of a part of the split that has no images."""
    others = [other for other, part in parts.items() if len(part)]
    text = f'the {name} split of {table.where} is empty'
    if table.written.layout == 'folder' and table.splits:
        return f'{text} (it has {", ".join(others)}): add the folder, or give one folder of classes as data.path.'
    if table.splits:
        return f'{text} (it has {", ".join(others)}): mark some images as {name}.'
    return f'{text}: give more images, or a larger data.split.{name}.'


def _make_long_tailed(
    labels: np.ndarray, train: np.ndarray, num_classes: int, config: Data
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
