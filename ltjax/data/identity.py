"""The identity of a data set: what a run was trained and tested on, so that nothing goes on with other data.

A run keeps it whole in `data_identity.npz`, and its digests in every checkpoint, result and prediction.
"""

import dataclasses
import hashlib
import json
import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from ltjax.data import reading
from ltjax.data.datasets import DataSet
from ltjax.data.reading import images
from ltjax.data.reading.decoding import stamp
from ltjax.data.reading.table import Column, Excluded, Files, Table
from ltjax.data.settings import Data
from ltjax.errors import UserError
from ltjax.written import values

FILE = 'data_identity.npz'


class Change(NamedTuple):
    """What differs between two data sets.

    'images', 'classes', 'split', 'labels', 'groups', 'columns', 'contents' or 'order'.
    """

    kind: str
    text: str


# What may differ in a run that is resumed by force: the same images stay on the same sides.
FORCEABLE = ('labels', 'groups', 'columns', 'contents')


@dataclasses.dataclass(frozen=True)
class Identity:
    """What tells a data set from another; N are the images that were read."""

    ids: np.ndarray  # str [N], in the order of the files
    labels: np.ndarray  # int32 [N]
    class_names: np.ndarray  # str [K]
    sides: np.ndarray  # str [N], 'train', 'val' or 'test'; '' if a long tail leaves it out
    given: np.ndarray  # str [N], the split or fold as the files have it; '' without
    groups: np.ndarray  # str [N], '' where there is none
    contents: np.ndarray  # str [N], digests of files or pixels; '' for a prepared set
    stamps: np.ndarray  # int64 [N, 2], size and time of change of the files; 0 without
    source: np.ndarray  # str [], what stands for the contents of a prepared set
    pixels: np.ndarray  # str [N], digests of pixels; '' for a set that stays on disk
    excluded: np.ndarray  # str [E], ids that were left out
    excluded_kinds: np.ndarray  # str [E], why, see `Excluded`
    excluded_contents: np.ndarray  # str [E], digests of their files; '' where there is none
    column_names: np.ndarray  # str [M], of the further columns that are used
    columns: np.ndarray  # str [M, N], their values; '' where there is none

    @classmethod
    def of(cls, data: DataSet, protocol: str) -> Self:
        """Returns the identity of a set as it was read and split by a protocol, see `Table.protocol`."""
        sides = np.full(len(data.ids), '', '<U5')
        for name, part in data.parts.items():
            sides[part] = name
        raw = data.raw
        return cls(
            ids=data.ids,
            labels=data.labels,
            class_names=np.array(data.class_names),
            sides=sides,
            given=data.table.splits[protocol][raw.rows] if protocol else _nothing(data.ids),
            groups=_nothing(data.ids) if raw.groups is None else raw.groups.astype(np.str_),
            contents=raw.contents,
            stamps=raw.stamps,
            source=np.array(data.table.written.source),
            pixels=raw.digests,
            excluded=_texts(each.path for each in raw.excluded),
            excluded_kinds=_texts(each.kind for each in raw.excluded),
            excluded_contents=_texts(_excluded_content(data.table, each) for each in raw.excluded),
            **_further(data.columns, len(data.ids)),
        )

    @classmethod
    def read(cls, workdir: pathlib.Path) -> Self | None:
        """Returns the identity that a run in `workdir` has written; None if there is none that can be read."""
        names = [field.name for field in dataclasses.fields(cls)]
        try:
            with (workdir / FILE).open('rb') as file, np.load(file, allow_pickle=False) as arrays:
                # Runs of older versions have no further columns.
                found = _further({}, len(arrays['ids'])) | dict(arrays)
                return cls(**{name: found[name] for name in names})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns what `read` reads."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def named_columns(self) -> dict[str, np.ndarray]:
        """The further columns, str [N], by name."""
        return dict(zip(self.column_names.tolist(), self.columns, strict=True))

    def digests(self) -> dict[str, str]:
        """Returns the sha256 of each aspect by kind of `Change`, and of all as 'sha256'; files' times do not count."""
        whole = {
            'images': [self.ids.tolist(), sorted(self.excluded.tolist())],
            'classes': self.class_names.tolist(),
            'labels': self.labels.tolist(),
            'split': self.sides.tolist(),
            'groups': self.groups.tolist(),
            'contents': [*self.contents.tolist(), str(self.source)],
        }
        if len(self.column_names):  # without any, all digests are those of older versions
            named = self.named_columns.items()
            whole['columns'] = sorted([name, column.tolist()] for name, column in named)
        made = {name: _sha256(value) for name, value in whole.items()}
        return {'sha256': _sha256(list(made.values()))} | made

    def changes(self, before: 'Identity') -> list[Change]:
        """Names what differs from an earlier identity: which images, which classes."""
        found = []
        was, now = _by_id(before.ids), _by_id(self.ids)
        added = [id_ for id_ in now if id_ not in was]
        removed = [id_ for id_ in was if id_ not in now]
        if added:
            found.append(Change('images', f'images added: {_listed(added)}'))
        if removed:
            found.append(Change('images', f'images gone: {_listed(removed)}'))
        theirs, ours = before.class_names.tolist(), self.class_names.tolist()
        if theirs != ours:
            gone = [f'{name!r} gone' for name in theirs if name not in ours]
            new = [f'{name!r} new' for name in ours if name not in theirs]
            text = _listed(gone + new) if gone or new else f'{_listed(theirs)}, now {_listed(ours)}'
            found.append(Change('classes', f'classes or their order: {text}'))
        common = [id_ for id_ in was if id_ in now]
        old = np.array([was[id_] for id_ in common], np.int64)
        new_ = np.array([now[id_] for id_ in common], np.int64)
        for kind, what, a, b in self._aspects(before):
            differ = np.flatnonzero(a[old] != b[new_])
            if len(differ) == 0:
                continue
            cases = [common[at] for at in differ]
            if kind != 'contents':
                cases = [f'{common[at]} ({a[old[at]]!s}, now {b[new_[at]]!s})' for at in differ]
            found.append(Change(kind, f'{what} changed: {_listed(cases)}'))
        if before.source != self.source:
            found.append(Change('contents', 'the images of the prepared set changed'))
        left_out = set(self.excluded.tolist()) ^ set(before.excluded.tolist())
        if left_out and not added and not removed:
            found.append(Change('images', f'images left out changed: {_listed(sorted(left_out))}'))
        if not found and before.ids.tolist() != self.ids.tolist():
            found.append(Change('order', 'the order of the images changed'))
        return found

    def _aspects(self, before: 'Identity') -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
        """Yields kind, name and values of what is said of every image, in an earlier identity and in this."""
        yield 'split', 'the split', before.sides, self.sides
        yield 'split', 'the split in the files', before.given, self.given
        yield 'labels', 'labels', _label_names(before), _label_names(self)
        yield 'groups', 'groups', before.groups, self.groups
        was, now = before.named_columns, self.named_columns
        for name in {**was, **now}:
            a, b = was.get(name, _nothing(before.ids)), now.get(name, _nothing(self.ids))
            yield 'columns', f'the column {name!r}', a, b
        yield 'contents', 'contents', before.contents, self.contents


def kinds_changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[Change]:
    """Names the kinds of what differs between two `Identity.digests`, where no more is known."""
    kinds = [kind for kind in {**now, **before} if before.get(kind) != now.get(kind)]
    return [Change(kind, f'{kind} changed') for kind in kinds if kind != 'sha256']


def since(config: Data, before: Identity) -> list[Change]:
    """Names what changed in the files since a run, which has written `before`, without decoding an image.

    Files of the size and time that they had are taken as unchanged; of others the bytes are compared.

    Raises:
      UserError: the files are not there, or no table can be made of them.
    """
    table = reading.survey(config)
    protocol = table.protocol(config.split.protocol)
    still_out = _still_excluded(table, before)
    ids = table.ids
    rows = np.array(
        [row for row in table.used(protocol).tolist() if ids[row] not in still_out], np.int64
    )
    ids = ids[rows]
    was = _by_id(before.ids)
    at = np.array([was.get(id_, -1) for id_ in ids.tolist()], np.int64)
    sides = np.where(at >= 0, before.sides[at], '') if len(was) else _nothing(ids)
    now = dataclasses.replace(
        before,
        ids=ids,
        labels=np.full(len(rows), -1, np.int32) if table.labels is None else table.labels[rows],
        class_names=np.array(table.class_names),
        sides=sides,
        given=table.splits[protocol][rows] if protocol else _nothing(ids),
        groups=_nothing(ids) if table.groups is None else table.groups[rows].astype(np.str_),
        contents=_contents(table, rows, at, before, config),
        source=np.array(table.written.source),
        excluded=_texts(sorted({*still_out, *(each.path for each in table.excluded)})),
        **_further({name: column.of(rows) for name, column in table.columns.items()}, len(rows)),
    )
    return now.changes(before)


def _excluded_content(table: Table, excluded: Excluded) -> str:
    """Returns the digest of the file of an image that could not be read; '' if there is none."""
    pixels, row = table.written.pixels, table.row_of.get(excluded.path)
    if excluded.kind != 'unreadable' or row is None or not isinstance(pixels, Files):
        return ''
    try:
        file = images.inside(pixels.root, pixels.names[row], allow_outside=True)
        return images.file_digest(file) if file.is_file() else ''
    except (OSError, UserError):
        return ''


def _still_excluded(table: Table, before: Identity) -> set[str]:
    """Returns the images that could not be read, and whose files are what they were: neither can they now."""
    known = zip(
        before.excluded.tolist(),
        before.excluded_kinds.tolist(),
        before.excluded_contents.tolist(),
        strict=True,
    )
    return {
        id_
        for id_, kind, content in known
        if kind == 'unreadable'
        and id_ in table.row_of
        and _excluded_content(table, Excluded(id_, '')) == content
    }


def _contents(
    table: Table, rows: np.ndarray, at: np.ndarray, before: Identity, config: Data
) -> np.ndarray:
    """Returns digests of the images' contents; of a file that seems unchanged, that of before."""
    pixels = table.written.pixels
    if isinstance(pixels, np.ndarray):
        return np.array([images.digest(image) for image in pixels[rows]])
    if not isinstance(pixels, Files):
        return _nothing(rows)
    found = []
    for row, known in zip(rows.tolist(), at.tolist(), strict=True):
        file = images.inside(pixels.root, pixels.names[row], allow_outside=config.allow_outside)
        try:
            same = known >= 0 and stamp(file) == tuple(before.stamps[known].tolist())
            found.append(str(before.contents[known]) if same else images.file_digest(file))
        except OSError:
            found.append('gone')
    return _texts(found)


def overlap(pixels: np.ndarray, known: Identity) -> int:
    """Returns how many images, by the digests of their pixels, are among those that a run has trained on."""
    trained = set(known.pixels[known.sides == 'train'].tolist())
    shown = images.shows_something(pixels)
    return sum(each in trained for each in pixels[shown].tolist())


def _further(columns: Mapping[str, Column], number: int) -> dict[str, np.ndarray]:
    """Returns what an identity holds of further columns of `number` images."""
    texts = [column.texts() for column in columns.values()]
    values = np.stack(texts) if texts else np.full((0, number), '')
    return {'column_names': _texts(columns), 'columns': values}


def _nothing(like: Sequence[Any] | np.ndarray) -> np.ndarray:
    return np.full(len(like), '')


def _texts(values: Iterable[str]) -> np.ndarray:
    return np.array(list(values), dtype=np.str_)


def _by_id(ids: np.ndarray) -> dict[str, int]:
    return {id_: row for row, id_ in enumerate(ids.tolist())}


def _label_names(identity: Identity) -> np.ndarray:
    return np.array([*identity.class_names.tolist(), ''])[identity.labels]


def _sha256(value: list[Any]) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _listed(cases: Sequence[str]) -> str:
    return f'{values.listed(cases, 3)} ({len(cases)})' if len(cases) > 3 else values.listed(cases)
