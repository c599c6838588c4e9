"""A table of spellings: what else the classes are called in the files, such as `Melanoma` and `mel.` for MEL."""

import dataclasses

from ltjax.data.reading.table import Written
from ltjax.data.settings import Data
from ltjax.errors import UserError
from ltjax.files import user_path
from ltjax.written import csv_rows, values

COLUMNS = ('spelling', 'class')


def applied(written: Written, config: Data) -> Written:
    """Returns what is written, with the classes of `data.spellings` in place of their spellings.

    Raises:
      UserError: the table cannot be read, lacks a column or a value, or gives a spelling two classes.
    """
    if not config.spellings or written.labels is None:
        return written
    meant = read(config)
    unseen = sorted(set(meant) - set(map(values.text, written.labels)))
    said = [f'spellings that do not occur: {values.listed(unseen)}'] if unseen else []
    return dataclasses.replace(
        written,
        labels=[meant.get(values.text(label), label) for label in written.labels],
        class_names=list(
            dict.fromkeys(meant.get(values.text(name), name) for name in written.class_names)
        ),
        notes=[*written.notes, *said],
    )


def read(config: Data) -> dict[str, str]:
    """Returns the class of each spelling; see `applied`."""
    path = user_path(config.spellings)
    if not path.is_file():
        raise UserError(f'{path} is no file: correct --config.data.spellings.')
    columns, rows = csv_rows.rows(path)
    if not set(COLUMNS) <= set(columns):
        raise UserError(
            f'{path} has the columns {values.listed(columns)}: it needs {" and ".join(COLUMNS)}.'
        )
    meant: dict[str, str] = {}
    for row in rows:
        spelling, name = (values.text((row.cells or {}).get(column, '')) for column in COLUMNS)
        if not spelling or not name:
            raise UserError(f'line {row.line} of {path} has no spelling or no class: give both.')
        if meant.setdefault(spelling, name) != name:
            raise UserError(
                f'line {row.line} of {path} gives {spelling!r} the class {name!r}, and an earlier one '
                f'{meant[spelling]!r}: remove one.'
            )
    return meant
