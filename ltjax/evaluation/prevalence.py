"""Shares of the classes among the patients that are meant, as a command is given them."""

import csv
import math
from collections.abc import Sequence

from ltjax.errors import UserError, unknown
from ltjax.written import values


def cells(line: str) -> tuple[str, ...]:
    """Returns the cells of a line of a CSV that are not empty."""
    cells = next(csv.reader([line], skipinitialspace=True), [])
    return tuple(cell.strip() for cell in cells if cell.strip())


def shares(line: str, class_names: Sequence[str]) -> list[float] | None:
    """Returns the shares that --prevalence=CLASS=SHARE,... gives the classes; None where it gives none.

    Args:
      line: with a share of each class, which sum to one.
      class_names: the K names.

    Raises:
      UserError: a class is unknown or missing, or these are no shares.
    """
    given = [each.rpartition('=') for each in cells(line)]
    if not given:
        return None
    by_name = dict[str, str]()
    for name, sign, share in given:
        if not sign:
            raise UserError(f'--prevalence: {share}: give CLASS=SHARE,...')
        if values.text(name) in by_name:
            raise UserError(f'--prevalence has two shares of {name!r}: give one of each class.')
        by_name[values.text(name)] = share
    for name in by_name:
        if name not in class_names:
            raise unknown('class of --prevalence=CLASS=SHARE,...', name, class_names)
    missing = [name for name in class_names if name not in by_name]
    if missing:
        raise UserError(f'--prevalence has no share of {missing[0]!r}: give one of each class.')
    try:
        found = [float(by_name[name]) for name in class_names]
    except ValueError as error:
        raise UserError(f'--prevalence: {error}: give CLASS=SHARE,...') from None
    if not (min(found) >= 0 and math.isclose(sum(found), 1, abs_tol=0.01)):
        raise UserError(
            f'--prevalence: shares of zero or more that sum to one, not {sum(found):.3g}.'
        )
    return found
