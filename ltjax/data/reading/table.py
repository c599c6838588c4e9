"""The table of a data set: what its files say of every image, by one set of rules for all formats.

A format's reader (`folder`, `csv_table`, `npz`, `prepared_set`, `tfds_set`) hands over what is written: `Written`.
`rules.make` makes the table of it and finds the faults. Training stops at the first fault; the audit lists them all.
"""

import dataclasses
import functools
import pathlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltjax.data.prepared import records
from ltjax.errors import UserError, unknown


class Fault(NamedTuple):
    """What stops a training.

    Attributes:
      kind: see `ltjax.data.audit.checks.KINDS`.
      message: what training says of it: one line with the first case and the remedy.
      text: what the audit says of it, with its number.
      cases: all of them.
    """

    kind: str
    message: str
    text: str
    cases: tuple[str, ...] = ()


class Excluded(NamedTuple):
    """An image that was left out: its path as the data set has it, why, and the kind of reason.

    That is 'unreadable', 'unlabelled', 'link' (to a folder), or 'name' (which no table can hold).
    """

    path: str
    reason: str
    kind: str = 'unreadable'


class Files(NamedTuple):
    """Image files: the folder that they lie in, and their paths relative to it."""

    root: pathlib.Path
    names: Sequence[str]


class Column(NamedTuple):
    """What a further column says of every image.

    Attributes:
      codes: int32 [N], places in `names`; -1 where it says nothing.
      names: its values, in their natural order.
    """

    codes: np.ndarray
    names: tuple[str, ...]

    def of(self, rows: np.ndarray) -> 'Column':
        """Returns what it says of some of the images."""
        return self._replace(codes=self.codes[rows])

    def texts(self) -> np.ndarray:
        """Returns the value of every image, str [N]; '' where there is none."""
        return np.array([*self.names, ''])[self.codes]


Pixels = Files | np.ndarray | records.StoredImages


@dataclasses.dataclass(frozen=True)
class Written:
    """What a format's reader found, as it is written.

    Attributes:
      layout: 'folder', 'csv', 'npz', 'prepared' or 'tfds'.
      where: the set's path or name, for messages.
      ids: of the images.
      pixels: where the images are.
      place: says of a row where it is written, such as 'line 7'.
      labels: of the images; None without.
      class_names: all classes in their order, where the files declare them; so may a folder without images be one.
      declared: whether `class_names` is an order that the files declare.
      ordered: whether the files say that this order means something.
      made_up: whether the names of the classes are, of their numbers.
      splits: by protocol, the side or fold of every image; '' in a prepared set: not used.
      groups: of the images; None without.
      columns: what else is said of the images, by name.
      faults: of the layout.
      unfit: images that cannot be read, as is known already.
      passed_over: files that are no images, by kind.
      notes: what was decided for the user.
      split_from: where the splits come from.
      source: what stands for the contents of a prepared set's images.
      side: pixels a side of a prepared set's images.
      digests: str [N], of the files that one's own prepared set was made of, see `images.digest`.
      published: whether the splits are.
      rows: of a CSV.
    """

    layout: str
    where: str
    ids: Sequence[str]
    pixels: Pixels
    place: Callable[[int], str]
    labels: Sequence[str] | None = None
    class_names: Sequence[str] = ()
    declared: bool = False
    ordered: bool = False
    made_up: bool = False
    splits: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    groups: Sequence[Any] | np.ndarray | None = None
    columns: Mapping[str, Sequence[Any] | np.ndarray] = dataclasses.field(default_factory=dict)
    faults: Sequence[Fault] = ()
    unfit: Sequence[Excluded] = ()
    passed_over: Counter[str] = dataclasses.field(default_factory=Counter)
    notes: Sequence[str] = ()
    split_from: str = ''
    source: str = ''
    side: int = 0
    digests: np.ndarray | None = None
    published: bool = False
    rows: Sequence[Mapping[str, str]] = ()


@dataclasses.dataclass(frozen=True)
class Table:
    """What a data set says of its images, before they are read.

    Attributes:
      written: what the files say.
      labels: int32 [N], -1 where there is none; None if no image has one.
      class_names: the K classes in their order.
      order_from: where that order comes from.
      ordered: whether the order means something: numbers, or given by the user.
      splits: by protocol, str [N]: 'train', 'val' and 'test', or whole numbers of folds; '' where it is not used.
      groups: int or str [N], '' where there is none; None if no image has one.
      columns: by name, those of `written.columns` that `data.further` names.
      faults: what stops a training, in the order in which it is told.
      excluded: images that are left out, as far as is known before they are read.
      kept: the rows that are not, int64.
      notes: what was decided for the user.
    """

    written: Written
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    order_from: str
    ordered: bool
    splits: Mapping[str, np.ndarray]
    groups: np.ndarray | None
    columns: Mapping[str, Column]
    faults: tuple[Fault, ...]
    excluded: tuple[Excluded, ...]
    kept: np.ndarray
    notes: tuple[str, ...]

    @property
    def where(self) -> str:
        return self.written.where

    @functools.cached_property
    def ids(self) -> np.ndarray:
        return np.array(list(self.written.ids), dtype=np.str_)

    @functools.cached_property
    def row_of(self) -> Mapping[str, int]:
        """The row of every id."""
        return {id_: row for row, id_ in enumerate(self.ids.tolist())}

    def protocol(self, name: str) -> str:
        """Returns the split that `data.split.protocol` means, '' if one is to be drawn.

        Only prepared sets have several; 'none' asks for a split that is drawn.

        Raises:
          UserError: a prepared set has no such split, or several and none is named.
        """
        if name == 'none' or not self.splits:
            return ''
        if self.written.layout != 'prepared' or (not name and len(self.splits) == 1):
            return next(iter(self.splits))
        if not name:
            raise UserError(
                f'{self.where} has the splits {", ".join(self.splits)}: choose one with '
                '--config.data.split.protocol=..., or draw one with =none.'
            )
        if name not in self.splits:
            raise unknown(f'split of {self.where}', name, self.splits)
        return name

    def used(self, protocol: str) -> np.ndarray:
        """Returns the rows that are not left out, as far as a protocol uses them ('': all), int64."""
        if not protocol:
            return self.kept
        return self.kept[self.splits[protocol][self.kept] != '']

    def refuse_enlarging(self, wanted: int, remedy: str = '') -> None:
        """Raises UserError if a prepared set's images are smaller than `wanted` pixels a side (0: as stored)."""
        stored = self.written.side
        if 0 < stored < wanted:
            raise UserError(
                f'{self.where} was prepared at {stored} px, and {wanted} are asked for: run its data_prep command with '
                f'--size={wanted} (ltjax prepare: --image-size {wanted}){remedy}.'
            )

    def refuse(self, *kinds: str) -> None:
        """Raises UserError for the first fault, or the first of these kinds."""
        for fault in self.faults:
            if not kinds or fault.kind in kinds:
                raise UserError(fault.message)
