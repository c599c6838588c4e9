"""Tables of images: CSV files in UTF-8 with the columns path and label and, if there are, split and group."""

import codecs
import csv
import io
import pathlib
from typing import Any

from ltjax.errors import UserError

COLUMNS = ('path', 'label', 'split', 'group')


def read(path: pathlib.Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Returns the columns and rows of a CSV; where a row is too short or long, None is among its values or keys.

    Raises:
      UserError: the file cannot be read, is in another encoding, lacks the column `path`, has a column
        twice, or one of `COLUMNS` with other capitals or with blanks, which would be passed over.
    """
    try:
        data = path.read_bytes()
        # Without a byte order mark, UTF-16 of plain letters is valid UTF-8: every second byte is zero.
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b'\0' in data[:4]:
            raise UserError(f'{path} is in UTF-16: save it as UTF-8.')
        reader = csv.DictReader(io.StringIO(data.decode('utf-8-sig'), newline=''))
        rows: list[dict[str, Any]] = list(reader)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b'\n') + 1
        raise UserError(
            f'{path} is not in UTF-8 (line {line}, byte {error.object[error.start]:#04x}; perhaps in '
            'latin-1 or cp1252): save it as UTF-8.'
        ) from None
    except (OSError, csv.Error) as error:
        reason = getattr(error, 'strerror', None) or error
        raise UserError(f'{path} is not a readable CSV ({reason}): write it again.') from None
    columns = list(reader.fieldnames or [])
    for column in columns:
        meant = column.strip().lower()
        if meant in COLUMNS and meant not in columns:
            raise UserError(f'{path} has the column {column!r}: write {meant!r}.')
        if columns.count(column) > 1:
            raise UserError(f'{path} has two columns {column!r}: remove one.')
    if 'path' not in columns:
        hint = ' separated by commas' if len(columns) == 1 else ''
        raise UserError(
            f'{path} has no column `path`{hint} (it has {", ".join(columns)}): name its columns '
            'path, label and, if there are, split and group.'
        )
    return columns, rows
