"""Rows of CSV files in UTF-8, as spreadsheets and programs write them."""

import codecs
import csv
import io
import pathlib
from typing import NamedTuple

from ltjax.errors import UserError

_DELIMITERS = ',;\t'


class Row(NamedTuple):
    """A row of a CSV: the line of the file where it begins, and its cells by column; None: too many or too few."""

    line: int
    cells: dict[str, str] | None


def rows(path: pathlib.Path, delimiter: str = '') -> tuple[list[str], list[Row]]:
    """Returns the columns and rows of a CSV; blank lines are no rows.

    Args:
      path: the file.
      delimiter: between cells; '': the comma, or where the first line has none, the semicolon or the tab in it.

    Raises:
      UserError: the file cannot be read, is in another encoding, or has a column twice.
    """
    try:
        data = path.read_bytes()
        # Without a byte order mark, UTF-16 of plain letters is valid UTF-8: every second byte is zero.
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b'\0' in data[:4]:
            raise UserError(f'{path} is in UTF-16: save it as UTF-8.')
        text = io.StringIO(data.decode('utf-8-sig'), newline='')
        first = next((line for line in data.decode('utf-8-sig').splitlines() if line.strip()), '')
        delimiter = delimiter or next((mark for mark in _DELIMITERS if mark in first), ',')
        reader = csv.reader(text, delimiter=delimiter, strict=True)  # a quote has to end
        found, line = list[tuple[int, list[str]]](), 1
        for cells in reader:
            if any(cells):
                found.append((line, cells))
            line = reader.line_num + 1
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b'\n') + 1
        raise UserError(
            f'{path} is not in UTF-8 (line {line}, byte {error.object[error.start]:#04x}; perhaps in '
            'latin-1 or cp1252): save it as UTF-8.'
        ) from None
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror}): allow it.') from None
    except csv.Error as error:
        raise UserError(
            f'{path} is not a readable CSV (from line {line}: {error}): mend a quote there, or write it again.'
        ) from None
    (_, columns), *body = found or [(1, [])]
    double = next((column for column in columns if columns.count(column) > 1), None)
    if double is not None:
        raise UserError(f'{path} has two columns {double!r}: remove one.')
    return columns, [
        Row(line, dict(zip(columns, cells, strict=True)) if len(cells) == len(columns) else None)
        for line, cells in body
    ]


def runs_on(cell: str, columns: int, *, used: bool) -> bool:
    """Tells whether a cell holds line breaks that it should not, or what looks like further rows of so many columns.

    A quote that is not ended takes all up to the next one into its cell.

    Args:
      cell: what is written.
      columns: of the table.
      used: whether the cell's column is one of names or numbers, which have no line breaks.
    """
    lines = cell.splitlines()
    return len(lines) > 1 and (
        used or any(line.count(mark) >= columns - 1 for line in lines for mark in _DELIMITERS)
    )
