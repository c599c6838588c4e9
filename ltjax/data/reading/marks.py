"""What marks images beside their class: groups, which stay on one side of a split, and further columns."""

from collections.abc import Iterable, Sequence

import numpy as np

from ltjax.data.reading.table import Column, Written
from ltjax.errors import UserError
from ltjax.written import values


def groups_of(written: Written) -> np.ndarray | None:
    """Returns the groups, '' where there is none; integers stay integers, on whose order drawn splits depend."""
    if written.groups is None or len(written.groups) == 0:
        return None
    given = np.asarray(written.groups)
    if np.issubdtype(given.dtype, np.integer) and given.min() >= 0:
        return given
    names = values.alike_as_one(given.tolist())
    return np.array(names, dtype=np.str_) if any(names) else None


def columns_of(written: Written, wanted: Sequence[str]) -> tuple[dict[str, Column], list[str]]:
    """Returns the further columns that are asked for, and notes.

    Raises:
      UserError: there is no such column.
    """
    columns, notes = {}, list[str]()
    for name in wanted:
        if name not in written.columns:
            there = values.listed(list(written.columns), 12) or 'none'
            raise UserError(
                f'{written.where} has no further column {name!r} (it has {there}): name columns that it has in '
                '--config.data.further, give it that one, or use another method.'
            )
        given = np.asarray(written.columns[name]).tolist()
        found = values.alike_as_one(given)
        notes += merged(name, zip(map(str, given), found, strict=True))
        order = tuple(values.in_natural_order(set(found) - {''}))
        place = {value: code for code, value in enumerate(order)}
        columns[name] = Column(np.array([place.get(each, -1) for each in found], np.int32), order)
    return columns, notes


def merged(what: str, pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Tells of names that are written in several ways and mean one thing: in blanks, Unicode, or as 1 and 1.0."""
    forms: dict[str, set[str]] = {}
    for form, name in set(pairs):
        if name:
            forms.setdefault(name, set()).add(form)
    return [
        f'{values.listed(sorted(map(ascii, ways)))} are one {what}, {name}'
        for name, ways in sorted(forms.items())
        if len(ways) > 1
    ]
