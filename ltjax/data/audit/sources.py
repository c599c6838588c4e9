"""What the audit reads: a data set's table, of any of the layouts, without giving up at its first fault."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltjax.data import catalog, datasets, folders, prepared, readers, splits, tables
from ltjax.data import images as image_files
from ltjax.errors import UserError

_AT_ONCE = 256  # records of a prepared set that are read ahead

Task = Callable[[], np.ndarray]


class Finding(NamedTuple):
    """Something to mend: its kind (a key of `audit.KINDS`), what it is in a line, and every case of it."""

    kind: str
    text: str
    cases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Source:
    """The table of a data set, and how to get at its images.

    Attributes:
      layout: 'folder', 'csv', 'npz' or 'prepared'.
      ids: str [N].
      labels: class names, str [N]; '' where there is none.
      class_names: all classes, also those without images.
      splits: by protocol, the side of every image, str [N]; '' where the protocol does not use it.
      groups: str [N]; '' where it is not known.
      tasks: returns, for every image in order, what decodes it.
      findings: faults of the layout.
      notes: what is worth knowing and no fault.
      files: where the images lie, for a folder and a CSV.
      rows: the rows of a CSV.
    """

    layout: str
    ids: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    splits: Mapping[str, np.ndarray]
    groups: np.ndarray
    tasks: Callable[[], Iterator[Task]]
    findings: Sequence[Finding] = ()
    notes: Sequence[str] = ()
    files: Sequence[pathlib.Path] = ()
    rows: Sequence[Mapping[str, str]] = ()


def read(path: pathlib.Path, *, allow_outside: bool = False) -> Source:
    """Reads the table of the data set at `path`: a folder, a CSV, an npz or a prepared set.

    Args:
      path: of the data set.
      allow_outside: whether images may lie outside the folder of the data set.

    Raises:
      UserError: nothing can be said about the set, since it is missing or has no table.
    """
    if not path.exists():
        raise UserError(f'{path} does not exist: correct the path.')
    if path.is_dir():
        if any((path / name).exists() for name in prepared.FILES):
            return _read_prepared(path)
        return _read_folder(path, allow_outside)
    if path.suffix == '.npz':
        return _read_npz(path)
    if path.suffix == '.csv':
        return _read_csv(path, allow_outside)
    raise UserError(f'{path} is no folder, .csv or .npz: give one of these.')


def _read_folder(root: pathlib.Path, allow_outside: bool) -> Source:
    found = folders.read(root)
    findings = [
        Finding('layout', f'{text}: {len(cases)}', tuple(cases))
        for cases, text in (
            (found.stray, 'images outside the class folders, which stop the training'),
            (found.linked, 'links to folders, which are not followed'),
            (found.unwritable, 'names that cannot be written into a table, which were left out'),
            (_misnamed(found), 'folders named as splits, which count as classes'),
        )
        if cases
    ]
    files = found.files
    listed = ', '.join(f'{count} {suffix}' for suffix, count in found.other.most_common(5))
    return Source(
        'folder',
        ids=_text(files),
        labels=_text(map(found.class_of, files)),
        class_names=tuple(found.classes),
        splits={'split': _text(name.split('/')[0] for name in files)} if found.has_splits else {},
        groups=_text('' for _ in files),
        tasks=functools.partial(_file_tasks, root, files, allow_outside),
        findings=findings,
        notes=[f'files that are passed over: {listed}'] if found.other else [],
        files=[root / name for name in files],
    )


def _misnamed(found: folders.Listing) -> list[str]:
    """Returns folders that were surely meant as splits."""
    alike = {*splits.NAMES, 'training', 'validation', 'valid', 'dev', 'testing'}
    return [name for name in found.directories if not found.has_splits and name.casefold() in alike]


def _file_tasks(root: pathlib.Path, names: Sequence[str], allow_outside: bool) -> Iterator[Task]:
    for name in names:
        yield functools.partial(_decode, root, name, allow_outside)


def _decode(root: pathlib.Path, name: str, allow_outside: bool) -> np.ndarray:
    return image_files.decode(image_files.inside(root, name, allow_outside=allow_outside))


def _read_csv(path: pathlib.Path, allow_outside: bool) -> Source:
    columns, lines = tables.read(path)
    rows, wrong = [], []
    for number, row in enumerate(lines, 2):
        if None in row or None in row.values() or not row['path'].strip():
            wrong.append(f'row {number}')
        else:
            rows.append(row)
    findings = []
    if wrong:
        text = f'rows that have not {len(columns)} columns, or no path: {len(wrong)}'
        findings.append(Finding('rows', text, tuple(wrong)))
    labels = _text(row.get('label', '') for row in rows)
    return Source(
        'csv',
        ids=_text(row['path'] for row in rows),
        labels=labels,
        class_names=tuple(sorted(set(labels.tolist()) - {''})),
        splits={'split': _text(row['split'] for row in rows)} if 'split' in columns else {},
        groups=_text(row.get('group', '') for row in rows),
        tasks=functools.partial(
            _file_tasks, path.parent, [row['path'] for row in rows], allow_outside
        ),
        findings=findings,
        files=[path.parent / row['path'] for row in rows],
        rows=rows,
    )


def _read_npz(path: pathlib.Path) -> Source:
    config = catalog.get('npz')
    config.path = str(path)
    raw = readers.read(config)
    size, images = len(raw.images), np.asarray(raw.images)
    labels, names = _text('' for _ in range(size)), tuple[str, ...]()
    if raw.labels is not None:
        numbers, names = datasets.check_labels(raw.labels, raw.class_names, str(path))
        labels = np.array(names)[numbers]
    return Source(
        'npz',
        ids=raw.ids,
        labels=labels,
        class_names=names,
        splits={} if raw.split is None else {'split': raw.split.astype(str)},
        groups=_text('' for _ in range(size)) if raw.groups is None else raw.groups.astype(str),
        tasks=lambda: (functools.partial(images.__getitem__, i) for i in range(size)),
    )


def _read_prepared(root: pathlib.Path) -> Source:
    data = prepared.read(root)
    data.verify()
    excluded = len(data.manifest['excluded'])
    return Source(
        'prepared',
        ids=data.ids,
        labels=np.array(data.class_names)[data.labels],
        class_names=data.class_names,
        splits={name: data.split(name) for name in data.manifest['splits']},
        groups=data.groups,
        tasks=functools.partial(_record_tasks, data),
        notes=[f'images left out when it was prepared: {excluded}'] if excluded else [],
    )


def _record_tasks(data: prepared.Prepared) -> Iterator[Task]:
    for start in range(0, len(data.ids), _AT_ONCE):
        indices = np.arange(start, min(start + _AT_ONCE, len(data.ids)))
        for encoded in data.encoded(indices):
            yield functools.partial(prepared.decode, encoded, data.manifest['channels'])


def _text(values: Any) -> np.ndarray:
    """Returns an array of text, also of no values."""
    return np.array(list(values), dtype=np.str_)
