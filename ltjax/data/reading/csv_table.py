"""Tables of images: CSV files in UTF-8 that name an image in every row, and say of it what `COLUMNS` lists."""

import os
import pathlib
from collections.abc import Mapping, Sequence

from ltjax.data.reading.table import Fault, Files, Written
from ltjax.data.settings import Data
from ltjax.errors import UserError, nearest
from ltjax.files import user_path
from ltjax.written import values
from ltjax.written.csv_rows import Row, rows, runs_on

COLUMNS = ('path', 'label', 'split', 'group')

# In place of a column of labels: every column that holds 0 and 1 alone is a class.
ONE_HOT = 'one_hot'


def read(path: pathlib.Path, config: Data) -> Written:
    """Reads a CSV, without its images.

    Of a config's `data` it takes `columns` and `further`, and for tables of ids `images`, the folder of the images
    (relative to the CSV's), and `suffix`, what an id lacks of its file's name.

    Raises:
      UserError: it cannot be read, or lacks a column that it needs.
    """
    if path.is_dir():
        raise UserError(
            f'{path} is a folder without a prepared set: give a CSV file, or prepare it, or name the data folder '
            '(--config=METHOD:folder) if it holds folders of classes.'
        )
    columns, found = rows(path)
    if not columns:
        raise UserError(f'{path} is empty: give a table with the columns path and label.')
    names = {what: getattr(config.columns, what) for what in COLUMNS}
    _check_columns(path, columns, names)
    classes, faults = _one_hot_columns(
        path, [column for column in columns if column not in config.further], found, names
    )
    needed = {*names.values(), *config.further}
    kept = list[Row]()
    broken, running = list[str](), list[str]()
    for row in found:
        if row.cells is None or not row.cells[names['path']].strip():
            broken.append(f'line {row.line}')
        elif any(
            runs_on(cell, len(columns), used=column in needed) for column, cell in row.cells.items()
        ):
            running.append(f'line {row.line}')
        else:
            kept.append(row)
    if broken:
        text = f'rows that have not {len(columns)} columns, or no path: {len(broken)}'
        message = f'{broken[0]} of {path} has not {len(columns)} columns, or no path'
        more = f' ({len(broken)} such rows)' if len(broken) > 1 else ''
        faults.append(Fault('rows', f'{message}{more}: mend or remove it.', text, tuple(broken)))
    if running:
        message = f'a quoted cell that begins in {running[0]} of {path} runs over further rows: end the quote there.'
        text = f'rows with a quoted cell that runs over further rows: {len(running)}'
        faults.append(Fault('rows', message, text, tuple(running)))
    if not kept and not faults:
        faults.append(Fault('rows', f'{path} lists no images.', 'it lists no images'))
    cells = [row.cells or {} for row in kept]
    ids = [row[names['path']] for row in cells]
    column = {what: [row[name] for row in cells] for what, name in names.items() if name in columns}
    if classes:
        column['label'], wrong = _one_hot_labels(path, kept, classes)
        faults += wrong
    files, moved = _files(path.parent, ids, config)
    further = [column for column in columns if column not in {*names.values(), *classes}]
    unused = [column for column in further if column not in config.further]
    notes = [f'columns that are not used: {values.listed(unused, 12)}'] if unused else []
    return Written(
        'csv',
        str(path),
        ids=ids,
        pixels=Files(path.parent, files),
        place=lambda row: f'line {kept[row].line}',
        labels=column.get('label'),
        class_names=classes,
        declared=bool(classes),
        splits={'split': column['split']} if 'split' in column else {},
        groups=column.get('group'),
        columns={name: [row[name] for row in cells] for name in further},
        faults=faults,
        notes=[*notes, *moved],
        split_from=f'the column {names["split"]!r}' if 'split' in column else '',
        rows=cells,
    )


def _files(root: pathlib.Path, ids: Sequence[str], config: Data) -> tuple[list[str], list[str]]:
    """Returns the file of each id, relative to the CSV's folder, and a line where paths are not taken as they are."""
    if not config.images:
        return [f'{id_}{config.suffix}' for id_ in ids], []
    folder = user_path(config.images)
    # Whole paths of another machine: as many folders are dropped as the first one needs to be found.
    paths = [pathlib.PureWindowsPath(id_) for id_ in ids]  # knows / and \, drives and shares
    first = next((each.parts for each in paths if each.root), ())
    found = (
        number
        for number in range(1, len(first))
        if os.path.lexists(root / folder / f'{"/".join(first[number:])}{config.suffix}')
    )
    dropped = next(found, len(first) - 1)
    names = [
        '/'.join(each.parts[dropped:]) if each.root else id_
        for id_, each in zip(ids, paths, strict=True)
    ]
    begins = pathlib.PureWindowsPath(*first[:dropped])
    said = [f'{folder} is taken for {begins} of the paths'] if first else []
    return [f'{folder}/{name}{config.suffix}' for name in names], said


def _check_columns(path: pathlib.Path, columns: Sequence[str], names: Mapping[str, str]) -> None:
    """Refuses a table without a column that was asked for, or with one whose name is nearly a usual one."""
    for column in columns:
        meant = column.strip().lower()
        if meant not in names.values():
            meant = meant.removesuffix('s')
        if meant in names.values() and meant not in columns:
            raise UserError(f'{path} has the column {column!r}: write {meant!r}.')
    for what, name in names.items():
        listed = [part for part in name.split(',') if what == 'label']
        if name in columns or name == ONE_HOT or set(listed or [name]) <= set(columns):
            continue
        if name == what and what != 'path':
            continue  # it may be absent
        absent = next((part for part in listed if part not in columns), name)
        hint = ' separated by commas' if len(columns) == 1 else ''
        near = nearest(absent, columns)
        hint += f', did you mean {near}?' if near else ''
        raise UserError(
            f'{path} has no column `{absent}`{hint} (it has {values.listed(columns, 12)}): name its columns '
            'path, label and, if there are, split and group; or say which they are: '
            f'--config.data.columns.{what}=NAME.'
        )


def _one_hot_columns(
    path: pathlib.Path, columns: Sequence[str], found: Sequence[Row], names: Mapping[str, str]
) -> tuple[list[str], list[Fault]]:
    """Returns the columns that are classes, if they are asked for; and a fault if there are such and they are not."""
    label = names['label']
    if label in columns:
        return [], []
    if ',' in label:
        return label.split(','), []
    whole = [row.cells for row in found if row.cells is not None]
    share = {
        column: sum(_mark(row[column]) is not None for row in whole) / max(len(whole), 1)
        for column in columns
        if column not in names.values()
    }
    # A cell may be wrong, and is told then; but most of a column that is a class are 0 and 1.
    marks = [column for column, marked in share.items() if marked >= _MOSTLY]
    if label == ONE_HOT:
        if len(marks) < 2:
            raise UserError(f'{path} has no columns of 0 and 1: correct data.columns.label.')
        return marks, []
    one_each = all(sum(bool(_mark(row[column])) for column in marks) == 1 for row in whole)
    if len(marks) < 2 or not whole or not one_each:
        others = [column for column in columns if column not in names.values()]
        if not others:
            return [], []
        message = (
            f'{path} has no column `label`: if one of {values.listed(others, 12)} holds the classes, say '
            '--config.data.columns.label=NAME.'
        )
        return [], [Fault('labels', message, message)]
    message = (
        f'{path} has no column `label`, but columns of 0 with a single 1 ({values.listed(marks)}): if these are '
        f'the classes, say --config.data.columns.label={ONE_HOT}.'
    )
    return [], [Fault('labels', message, message)]


_MOSTLY = 0.9


def _mark(cell: str) -> bool | None:
    """Returns what a cell marks: 1, 1.0 or True; 0, 0.0 or False; None for all else."""
    text = {'true': '1', 'false': '0'}.get(cell.strip().casefold(), cell)
    number = values.whole_number(text)
    return bool(number) if number in (0, 1) else None


def _one_hot_labels(
    path: pathlib.Path, found: Sequence[Row], classes: Sequence[str]
) -> tuple[list[str], list[Fault]]:
    """Returns the class that each row marks, '' for none, and faults: several marks, or other values."""
    labels, wrong = list[str](), list[str]()
    for row in found:
        marks = {name: _mark((row.cells or {})[name]) for name in classes}
        marked = [name for name, mark in marks.items() if mark]
        if len(marked) > 1 or None in marks.values():
            wrong.append(f'line {row.line}')
        labels.append(marked[0] if marked else '')
    if not wrong:
        return labels, []
    message = (
        f'{wrong[0]} of {path} marks several of {values.listed(classes)}, or holds what is neither 0 nor 1 '
        f'({len(wrong)} such rows): an image has one class; mend or remove it.'
    )
    text = f'rows that mark several classes, or hold what is neither 0 nor 1: {len(wrong)}'
    return labels, [Fault('labels', message, text, tuple(wrong))]
