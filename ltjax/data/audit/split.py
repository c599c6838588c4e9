"""The split that the audit suggests: per class, and never through a group or a cluster of near-duplicates."""

import dataclasses
import os
import pathlib

import numpy as np

from ltjax import files
from ltjax.data import splits
from ltjax.data.audit.checks import class_counts, units
from ltjax.data.audit.sources import Source
from ltjax.data.near_duplicates import Clusters
from ltjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A split."""

    val: float  # fraction that was asked for
    test: float  # fraction that was asked for
    seed: int  # that drew it
    units: int  # groups and clusters of duplicates, of two images or more, that were kept whole
    counts: dict[str, list[int]]  # images of each class, by side
    left_out: tuple[str, ...]  # classes that are not on all three sides
    # By id, 'train', 'val' or 'test'; without the images that cannot be read or have no label.
    sides: dict[str, str]


def suggest(
    source: Source, readable: np.ndarray, near: Clusters, *, val: float, test: float, seed: int
) -> Suggestion:
    """Splits the images that are readable (bool [N]) and have a label by `splits.protocol`.

    With groups, the fractions are those of images. Without, a cluster of duplicates counts as one image,
    so that every class of three or more has one on each side.

    Raises:
      UserError: there are none, or they cannot be split so.
    """
    rows = np.flatnonzero(readable & (source.labels != ''))
    if len(rows) == 0:
        raise UserError('no image that can be read has a label.')
    together = units(source, near).of(rows)
    _, sizes = np.unique(together.joined(), return_counts=True)
    fractions = (1 - val - test, val, test)
    chosen = together.deal(lambda y, g: splits.protocol(y, g, fractions=fractions, seed=seed))
    sides = np.full(len(source.ids), '', dtype='U5')
    sides[rows] = chosen
    counts = {name: class_counts(source, sides == name) for name in splits.NAMES}
    return Suggestion(
        val=val,
        test=test,
        seed=seed,
        units=int((sizes > 1).sum()),
        counts=counts,
        left_out=tuple(
            name
            for name, *numbers in zip(source.class_names, *counts.values(), strict=True)
            if not all(numbers)
        ),
        sides={str(source.ids[i]): str(sides[i]) for i in rows},
    )


def check_target(target: pathlib.Path, path: pathlib.Path, source: Source) -> None:
    """Refuses a file to write the split of `path` to, before the work is done.

    Raises:
      UserError: it is there already, has no folder, or the images do not lie below it.
    """
    if target.exists():
        raise UserError(f'{target} exists: give another name, or remove it.')
    if not target.parent.is_dir():
        raise UserError(f'{target.parent} is no folder: make it first.')
    root = path if path.is_dir() else path.parent
    start = os.path.realpath(target.parent)
    if source.files and not pathlib.Path(os.path.realpath(root)).is_relative_to(start):
        raise UserError(f'{target} should lie in {root} or above it, since its paths start there.')


def write(target: pathlib.Path, path: pathlib.Path, source: Source, suggestion: Suggestion) -> None:
    """Writes a split as CSV.

    For a CSV: its columns, with `path`, `label`, `split` and, if there are, `group`; for a folder: these alone, with
    paths relative to `target`, so that either can be trained from; for an npz and a prepared set: id and split.
    """
    root = path if path.is_dir() else path.parent
    start = os.path.realpath(target.parent)
    has_groups = bool((source.groups != '').any())
    rows: list[dict[str, str]] = []
    for i, id_ in enumerate(source.ids.tolist()):
        side = suggestion.sides.get(id_)
        if side is None or not source.labels[i]:
            continue
        if not source.files:
            rows.append({'id': id_, 'split': side})
            continue
        # Under the usual names, whatever the columns are called.
        row = dict(source.rows[i]) if source.rows else {}
        place = os.path.join(os.path.realpath(root), os.path.relpath(source.files[i], root))
        row |= {'path': pathlib.Path(os.path.relpath(place, start)).as_posix()}
        row |= {'label': str(source.labels[i]), 'split': side}
        rows.append(row | ({'group': str(source.groups[i])} if has_groups else {}))
    files.write_csv(target, [rows[0], *(row.values() for row in rows)])
