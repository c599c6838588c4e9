"""How many training images each class of predictions had: what head, medium and tail are divided by."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ltjax.errors import UserError
from ltjax.evaluation.groups import head_medium_tail
from ltjax.evaluation.predictions import Predictions
from ltjax.written import csv_rows, values

Groups = Mapping[str, Sequence[int]]


def find(
    found: Predictions, path: pathlib.Path | None = None
) -> tuple[list[int] | None, Groups, list[str]]:
    """Finds the training images of the classes of predictions.

    Args:
      found: the predictions.
      path: a CSV of class and count, or the results.json of a run; None: the results.json beside the predictions, if
        it is of a run of these classes.

    Returns:
      The training images [K], None where they are not known; the classes of head, medium and tail, then by test
      images; and what is to be said of it.

    Raises:
      UserError: the file that is named is not what it should be, or lacks a class.
    """
    if path is not None:
        return *_of_file(path, found), []
    said = 'Training counts are not known: head, medium and tail are by test images (give --train-counts).'
    beside = pathlib.Path(found.where).with_name('results.json')
    if beside.is_file():
        try:
            return *_of_file(beside, found), []
        except UserError as error:  # it may be anybody's
            said = f'{said} The file beside was passed over: {error}'
    sizes = [int((found.labels == k).sum()) for k in range(len(found.class_names))]
    return None, head_medium_tail(sizes), [said]


def read(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a JSON file holds; nothing if it is none."""
    try:
        found = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_file(path: pathlib.Path, found: Predictions) -> tuple[list[int], Groups]:
    if path.suffix == '.json':
        by_name, divided = _of_run(path)
    else:
        by_name, divided = _of_csv(path), None
    for name in found.class_names:
        if name not in by_name:
            raise UserError(
                f'{path} has no training images of the class {name!r} of {found.where}: add it, 0 if there were none.'
            )
    counts = [by_name[name] for name in found.class_names]
    if divided is not None and sorted(by_name) == sorted(found.class_names):
        place = {name: k for k, name in enumerate(found.class_names)}
        return counts, {group: [place[name] for name in names] for group, names in divided.items()}
    return counts, head_medium_tail(counts)


def _of_run(path: pathlib.Path) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Returns training images by class, and the classes by group."""
    results = read(path)
    try:
        names = [values.text(name) for name in results['class_names']]
        counts = [int(count) for count in results['train_counts']]
        groups = results['test']['groups']
        divided = {name: [values.text(each) for each in groups[name]['classes']] for name in groups}
        return dict(zip(names, counts, strict=True)), divided
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise UserError(
            f'{path} is no results.json of a run: give --train-counts=FILE.csv.'
        ) from None


def _of_csv(path: pathlib.Path) -> dict[str, int]:
    wrong = UserError(f'{path} should be a CSV with the columns class and count, a whole number.')
    columns, rows = csv_rows.rows(path)
    tidy = [values.text(name) for name in columns]
    if not {'class', 'count'} <= {*tidy} or any(row.cells is None for row in rows):
        raise wrong
    names_in, counts_in = (columns[tidy.index(name)] for name in ('class', 'count'))
    cells = [row.cells for row in rows if row.cells is not None]
    names = [values.text(row[names_in]) for row in cells]
    counts = [values.whole_number(row[counts_in]) for row in cells]
    known = [count for count in counts if count is not None and count >= 0]
    if len(known) < len(counts):
        raise wrong
    if len(set(names)) < len(names):
        raise UserError(f'{path} has {max(names, key=names.count)!r} twice: keep one row of each.')
    return dict(zip(names, known, strict=True))
