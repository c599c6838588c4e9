"""Files of predictions: .npz as a run leaves it, and .csv as anybody can write it."""

import pathlib
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ltjax.errors import UserError, unknown
from ltjax.evaluation.predictions import Predictions, distinct, made
from ltjax.written import csv_rows, values

# What precedes the names of further columns in the .npz of a run.
COLUMN = 'column:'
_CLASS_COLUMN = re.compile(r'(p|logit)\((.*)\)', re.DOTALL)


class Naming(NamedTuple):
    """What the columns of a CSV are called.

    Attributes:
      id: of the column of the images' names; without such a column they are numbered.
      label: of the classes' names.
      group: of the patients, lesions or smears.
      classes: columns of scores, in the order of the classes; (): those that are called p(CLASS) or logit(CLASS).
      logits: whether the columns named in `classes` hold logits, not probabilities.
    """

    id: str = 'id'
    label: str = 'label'
    group: str = 'group'
    classes: Sequence[str] = ()
    logits: bool = False


USUAL = Naming()


def read(path: pathlib.Path, naming: Naming = USUAL) -> Predictions:
    """Reads predictions: an .npz as a run leaves it, or a .csv.

    An .npz has labels int [n], logits or probabilities [n, K] and class_names [K]; and if they are known ids,
    groups and further arrays [n]. A .csv has a row an image, and columns as `naming` says; a label is the name of a
    class. What is not an id, label, group, score or `prediction` is a further column. Names of classes are compared
    as Unicode's NFC.

    Raises:
      UserError: the file cannot be read or lacks something, a label is missing or unknown, a score is not finite,
        probabilities do not sum to one, or an image occurs twice.
    """
    if path.suffix.lower() not in ('.npz', '.csv'):
        raise UserError(f'{path} should end in .npz or .csv.')
    if not path.is_file():
        raise UserError(f'{path}: there is no such file.')
    found = _read_npz(path) if path.suffix.lower() == '.npz' else _read_csv(path, naming)
    if not all(found.ids):
        raise UserError(f'{path} has an image without a name: give each its own.')
    ids, times = np.unique(found.ids, return_counts=True)
    if times.max() > 1:
        raise UserError(f'{path} has the image {ids[times.argmax()]} twice: keep one row of each.')
    return found


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns what an npz holds."""
    if not zipfile.is_zipfile(path):
        raise UserError(f'{path} is no whole npz: write it with np.savez.')
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files if name != 'features'}
            arrays = {name: each for name, each in found.items() if isinstance(each, np.ndarray)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f'{path} cannot be read: {error}. Write it anew with np.savez, names as arrays of str, not of objects.'
        ) from None
    for name in ('labels', 'class_names'):
        if name not in arrays:
            raise UserError(
                f'{path} has no array {name!r}, but {", ".join(arrays) or "none"}: add it.'
            )
    for name in ('ids', 'groups'):  # without which images would pass for independent
        near = next((each for each in arrays if _nearly(each, name)), None)
        if near is not None and name not in arrays:
            raise UserError(f'{path} has an array {near!r}: call it {name!r}.')
    return arrays


def _nearly(name: str, meant: str) -> bool:
    """Tells whether a name is the one that is meant but for capitals and a final s."""
    return name.casefold().removesuffix('s') == meant.removesuffix('s')


def _read_npz(path: pathlib.Path) -> Predictions:
    arrays = _arrays(path)
    kinds = [name for name in ('logits', 'probabilities') if name in arrays]
    if len(kinds) != 1:
        raise UserError(f'{path} should have an array of logits or one of probabilities.')
    labels, scores, names = arrays['labels'], arrays[kinds[0]], arrays['class_names']
    if labels.ndim != 1 or labels.dtype.kind not in 'iu' or scores.dtype.kind not in 'fiu':
        raise UserError(f'{path}: labels should be whole numbers [n], and {kinds[0]} numbers.')
    if scores.shape != labels.shape + names.shape or names.ndim != 1:
        raise UserError(
            f'{path}: {kinds[0]} of shape {scores.shape} do not fit labels {labels.shape} and class_names '
            f'{names.shape}: they should be [n, K], [n] and [K].'
        )
    for name in ('ids', 'groups'):
        if name in arrays and arrays[name].shape != labels.shape:
            raise UserError(
                f'{path}: {name} of shape {arrays[name].shape} do not fit labels {labels.shape}: give one an image.'
            )
    known = {'ids', 'labels', 'class_names', 'groups', 'prediction', kinds[0]}
    texts = {
        name: _texts(path, name, array)
        for name, array in arrays.items()
        if name in ('ids', 'class_names', 'groups')
        or (name not in known and array.shape == labels.shape)
    }
    ids = texts.get('ids', np.arange(len(labels)).astype(np.str_))
    outside = (labels < 0) | (labels >= len(names))
    if outside.any():
        row = outside.argmax()
        raise UserError(
            f'{path}: the label of {ids[row]} is {labels[row]}, and the classes are 0 to {len(names) - 1}: '
            'keep images with a label.'
        )
    return made(
        path,
        ids,
        labels.astype(np.int64),
        distinct(path, texts['class_names'].tolist()),
        scores,
        logits=kinds[0] == 'logits',
        groups=texts.get('groups'),
        columns={
            name.removeprefix(COLUMN): array for name, array in texts.items() if name not in known
        },
        numbered='ids' not in arrays,
    )


def _texts(path: pathlib.Path, name: str, array: np.ndarray) -> np.ndarray:
    """Returns an array as str; bytes are UTF-8."""
    try:
        return np.char.decode(array, 'utf-8') if array.dtype.kind == 'S' else array.astype(np.str_)
    except UnicodeDecodeError:
        raise UserError(f'{path}: {name} are bytes that are not UTF-8: save them as str.') from None


def _read_csv(path: pathlib.Path, naming: Naming) -> Predictions:
    header, rows = _cells(path)
    columns = dict(zip(header, np.array(rows, np.str_).reshape(-1, len(header)).T, strict=True))
    naming = Naming(
        id=values.text(naming.id),
        label=values.text(naming.label),
        group=values.text(naming.group),
        classes=tuple(map(values.text, naming.classes)),
        logits=naming.logits,
    )
    if naming.label not in columns:
        raise UserError(
            f'{path} has no column {naming.label!r}: name that of the labels with --columns=label=COLUMN; the columns '
            f'are {", ".join(header)}.'
        )
    for what, name, usual in (('id', naming.id, USUAL.id), ('group', naming.group, USUAL.group)):
        if name != usual and name not in columns:
            raise unknown(f'column of {path}', name, columns)
        near = next((each for each in columns if _nearly(each, what)), None)
        if near is not None and name not in columns:
            raise UserError(
                f'{path} has a column {near!r}: call it {what!r}, or say --columns={what}={near}.'
            )
    ids = columns.get(naming.id, np.arange(1, len(rows) + 1).astype(np.str_))
    scores, named, logits = _score_columns(path, columns, naming)
    class_names = distinct(path, named)
    numbers = np.stack([_numbers(path, name, columns[name], ids) for name in scores], axis=1)
    place = {name: k for k, name in enumerate(class_names)}
    given = [values.text(name) for name in columns[naming.label].tolist()]
    given = [name if name in place else values.name(name) for name in given]  # 1.0 is 1
    for name, label in zip(ids.tolist(), given, strict=True):
        if not label:
            raise UserError(f'{path}: {name} has no label: keep images with a label.')
        if label not in place:
            raise unknown(f'label of {name} in {path}', label, class_names)
    taken = {naming.id, naming.label, naming.group, 'prediction', *scores}
    return made(
        path,
        ids,
        np.array([place[label] for label in given], np.int64),
        class_names,
        numbers,
        logits=logits,
        groups=columns.get(naming.group),
        columns={name: column for name, column in columns.items() if name not in taken},
        numbered=naming.id not in columns,
    )


def _cells(path: pathlib.Path) -> tuple[list[str], list[list[str]]]:
    """Returns the names of the columns, and the rows."""
    columns, rows = csv_rows.rows(path)
    if not columns:
        raise UserError(f'{path} is empty: it needs a line of names of columns, and one an image.')
    header = [values.text(name) for name in columns]
    if len(set(header)) < len(header):
        twice = max(header, key=header.count)
        raise UserError(f'{path}: two columns are called {twice!r}: give each a name of its own.')
    found = []
    for row in rows:
        if row.cells is None:
            raise UserError(
                f'{path}: line {row.line} has more or fewer cells than the header, {len(header)}: put what holds a '
                'comma in quotation marks.'
            )
        if any(csv_rows.runs_on(cell, len(header), used=False) for cell in row.cells.values()):
            raise UserError(
                f'{path}: a quoted cell that begins in line {row.line} runs over further rows: end the quote there.'
            )
        found.append([*row.cells.values()])
    return header, found


def _numbers(path: pathlib.Path, name: str, column: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns a column as float64."""
    numbers = np.empty(len(column))
    for row, cell in enumerate(column.tolist()):
        try:
            numbers[row] = float(cell)
        except ValueError:
            raise UserError(
                f'{path}: {cell!r}, the score of {ids[row]} in the column {name}, is not a number: give one with a '
                'decimal point.'
            ) from None
    return numbers


def _score_columns(
    path: pathlib.Path, columns: Mapping[str, np.ndarray], naming: Naming
) -> tuple[list[str], list[str], bool]:
    """Returns the columns of scores, the classes, and whether the scores are logits."""
    for name in naming.classes:
        if name not in columns:
            raise unknown(f'column of {path}', name, columns)
    found = {
        name: match
        for name in naming.classes or columns
        if (match := _CLASS_COLUMN.fullmatch(name))
    }
    if naming.classes and len(found) < len(naming.classes):
        return list(naming.classes), list(naming.classes), naming.logits
    kinds = {match[1] for match in found.values()}
    if len(found) < 2 or len(kinds) > 1:
        raise UserError(
            f'{path} should have a column p(CLASS), or logit(CLASS), of each class; or name the columns with '
            f'--classes=A,B,...: they are {", ".join(columns)}.'
        )
    return list(found), [values.text(match[2]) for match in found.values()], kinds == {'logit'}
