"""The rules by which what is written of a data set becomes its table, for all formats; see `values`."""

import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ltjax.data.reading.marks import columns_of, groups_of, merged
from ltjax.data.reading.table import Excluded, Fault, Files, Table, Written
from ltjax.data.settings import Data
from ltjax.errors import UserError
from ltjax.written import values

# Where the order of the classes comes from, as the log says it.
DECLARED = 'in the order that the files declare'
GIVEN = 'in the order of data.class_order'
NUMBERS = 'in the order of their numbers'
NAMES = 'in the natural order of their names'


def make(written: Written, config: Data) -> Table:
    """Applies the rules to what is written.

    Args:
      written: by a format's reader.
      config: the `data` part of a config: `class_order`, `on_unlabelled` and `further`.

    Raises:
      UserError: the settings themselves are wrong, or name a column that is not there.
    """
    faults, notes = list(written.faults), list(written.notes)
    classes, labels, kept, excluded = _NO_CLASSES, None, np.arange(len(written.ids)), []
    if written.labels is not None:
        order = class_order(config)
        names = [_class_name(label, order) for label in written.labels]
        missing = [row for row, name in enumerate(names) if not name]
        if len(missing) < len(names):
            classes, wrong = _classes(written, set(names) - {''}, order)
            faults += wrong
            notes += merged('class', zip(written.labels, names, strict=True))
            place = {name: k for k, name in enumerate(classes.names)}
            labels = np.array([place.get(name, -1) for name in names], np.int32)
            if missing and config.on_unlabelled == 'exclude':
                kept = np.setdiff1d(kept, missing)
                excluded = [
                    Excluded(written.ids[row], f'no label ({written.labels[row]!r})', 'unlabelled')
                    for row in missing
                ]
            elif missing:
                faults.append(_unlabelled(written, written.labels, missing))
    groups = groups_of(written)
    if groups is not None and written.groups is not None:
        names = groups.astype(np.str_).tolist()
        notes += merged('group', zip(map(str, written.groups), names, strict=True))
    left_out = set(range(len(written.ids))) - set(kept.tolist())
    columns, said = columns_of(written, config.further)
    notes += said
    splits = {}
    for protocol, sides in written.splits.items():
        splits[protocol], wrong, said = _split(written, sides, left_out)
        faults += wrong
        notes += said
    faults += _doubled(written, splits)
    return Table(
        written,
        labels,
        classes.names,
        classes.origin,
        classes.ordered,
        splits,
        groups,
        columns,
        tuple(faults),
        (*written.unfit, *excluded),
        kept,
        tuple(notes),
    )


def class_order(config: Data) -> tuple[str, ...] | None:
    """Returns `data.class_order`: the classes in their order, () for the natural order, None if it is left open.

    It is written with commas, or, where a name has one, as a JSON list.

    Raises:
      UserError: it begins as a JSON list and is none, or names a class twice.
    """
    given = config.class_order
    if given == 'natural':
        return ()
    try:
        listed = json.loads(given) if given.lstrip().startswith('[') else given.split(',')
    except ValueError:
        raise UserError(
            f'data.class_order is {given!r}: write the classes with commas, or as a JSON list.'
        ) from None
    names = tuple(name for name in map(values.text, listed) if name)
    if len(set(names)) < len(names):
        raise UserError(f'data.class_order names a class twice: {", ".join(names)}.')
    return names or None


def _class_name(label: str, order: tuple[str, ...] | None) -> str:
    """Returns a label as it is compared; one in the given order is meant, even if it reads as a missing value."""
    return values.text(label) if order and values.text(label) in order else values.name(label)


def _unlabelled(written: Written, labels: Sequence[str], rows: Sequence[int]) -> Fault:
    places = tuple(written.place(row) for row in rows)
    seen = sorted({repr(str(labels[row])) for row in rows})
    return Fault(
        'labels',
        f'{written.where} has no label in {values.listed(places)} ({values.listed(seen)} stands for none; '
        f'{len(rows)} of {len(written.ids)} images): give one, remove the row, or leave such images out with '
        '--config.data.on_unlabelled=exclude.',
        f'images without a label: {len(rows)}',
        tuple(str(written.ids[row]) for row in rows),
    )


class _Classes(NamedTuple):
    """The classes in their order, where that comes from, and whether it means something."""

    names: tuple[str, ...]
    origin: str
    ordered: bool


_NO_CLASSES = _Classes((), '', False)


def _classes(
    written: Written, present: set[str], order: tuple[str, ...] | None
) -> tuple[_Classes, list[Fault]]:
    """Orders the classes, those that are declared and those that are `present`; and finds faults of their names."""
    where, wrong = written.where, list[Fault]()
    declared = [_class_name(name, order) or values.text(name) for name in written.class_names]
    known = list(dict.fromkeys(declared)) + sorted(present - set(declared))
    if written.declared and len(set(declared)) < len(declared):
        double = next(name for name in declared if declared.count(name) > 1)
        message = f'{where} has two classes {double!r}: give each class its own name.'
        wrong.append(Fault('labels', message, message))
    if order:
        order = tuple(name if name in known else values.name(name) or name for name in order)
        strange, left_out = set(order) - set(known), set(known) - set(order)
        if strange or left_out:
            fault = 'names what is no class' if strange else 'leaves out'
            message = (
                f'data.class_order {fault}: {values.listed(sorted(strange or left_out))}; {where} has the classes '
                f'{values.listed(values.in_natural_order(known), 12)}.'
            )
            wrong.append(Fault('labels', message, message))
            return _Classes(tuple(values.in_natural_order(known)), NAMES, False), wrong
        return _Classes(order, GIVEN, True), wrong
    missing = [name for name in known if values.is_missing(name)]
    if missing:
        message = (
            f'{where} has the class {missing[0]!r}, which reads as a missing value: rename it, or list all classes '
            'in --config.data.class_order if it is one.'
        )
        wrong.append(Fault('labels', message, message))
    numbers = values.are_numbers(known)
    if written.declared and order is None:
        ascending = numbers and known == values.in_natural_order(known)
        return _Classes(tuple(known), DECLARED, ascending or written.ordered), wrong
    alike = values.spelled_alike(known)
    if alike:
        first, second = alike[0][:2]
        in_blanks = ' '.join(first.split()) == ' '.join(second.split())
        wrong.append(
            Fault(
                'labels',
                f'{where} has the labels {first!r} and {second!r}, which differ in '
                f'{"blanks" if in_blanks else "their spelling"}: make them one, or list all classes in '
                '--config.data.class_order if both are meant.',
                f'classes that are spelled in several ways: {len(alike)}',
                tuple(', '.join(map(repr, group)) for group in alike),
            )
        )
    natural = tuple(values.in_natural_order(known))
    if order is not None:
        return _Classes(natural, GIVEN, True), wrong
    return _Classes(natural, NUMBERS if numbers else NAMES, numbers), wrong


def _split(
    written: Written, sides: Sequence[str], left_out: set[int]
) -> tuple[np.ndarray, list[Fault], list[str]]:
    """Returns the sides of a protocol by their usual names, or its folds as whole numbers; faults; and notes.

    Rows that are left out for other reasons need no side.
    """
    spelled = sorted({str(side) for side in sides})
    names = {side: values.split_name(side) for side in spelled}
    folds = {side: values.whole_number(side) for side in spelled}
    blank = {side for side in spelled if values.is_missing(side)}
    unused = blank if written.layout == 'prepared' else set[str]()
    used = [side for side in spelled if side not in blank]
    by_number = bool(used) and all(folds[side] is not None for side in used)
    read = folds if by_number else names
    column = np.array(
        ['' if read[str(side)] is None else str(read[str(side)]) for side in sides], dtype=np.str_
    )
    faults = []

    def fault(rows: Sequence[int], message: str, text: str) -> None:
        cases = tuple(str(written.ids[row]) for row in rows)
        faults.append(Fault('splits', message, f'{text}: {len(rows)}', cases))

    where = written.where
    lacking = [
        row for row, side in enumerate(sides) if str(side) in blank - unused and row not in left_out
    ]
    if lacking:
        places = [written.place(row) for row in lacking]
        fault(
            lacking,
            f'{where} has no split in {values.listed(places)} ({len(lacking)} of {len(sides)} images): mark each '
            'image, or remove the row.',
            'images without a split',
        )
    strange = [side for side in used if not by_number and names[side] is None]
    for side in strange:
        rows = [row for row, given in enumerate(sides) if str(given) == side]
        fault(
            rows,
            f'unknown split {side!r} of {where}: use train, val or test, or whole numbers of folds in every row '
            f'(it has {values.listed(used)}).',
            f'images of the unknown split {side!r} (use train, val or test)',
        )
    below = [side for side in used if by_number and (folds[side] or 0) < 0]
    if below:
        rows = [row for row, given in enumerate(sides) if str(given) in below]
        fault(
            rows,
            f'{where} has the fold {below[0]}: folds are whole numbers from 0.',
            f'images of the fold {below[0]}, below 0',
        )
    notes = [
        f'{side} is read as {names[side]}'
        for side in used
        if not by_number and names[side] not in (None, side)
    ]
    return column, faults, notes


def _doubled(written: Written, splits: Mapping[str, np.ndarray]) -> list[Fault]:
    """Finds images that are listed twice, also under two spellings of one path."""
    keys = [str(id_) for id_ in written.ids]
    if written.layout == 'csv' and isinstance(written.pixels, Files):
        root = written.pixels.root
        paths = (root / unicodedata.normalize('NFC', name) for name in written.pixels.names)
        keys = [os.path.relpath(os.path.abspath(path), os.path.abspath(root)) for path in paths]
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    twice = {key: found for key, found in rows.items() if len(found) > 1}
    if not twice:
        return []
    key = max(twice, key=lambda each: len(twice[each]))
    sides = sorted({str(of[row]) for of in splits.values() for row in twice[key]} - {''})
    two_sides = f' (in the splits {" and ".join(sides)})' if len(sides) > 1 else ''
    return [
        Fault(
            'ids',
            f'{written.where} has the id {key!r} more than once{two_sides}: every image needs its own.',
            f'images that are listed more than once: {len(twice)}',
            tuple(f'{each} ({len(found)} times)' for each, found in twice.items()),
        )
    ]
