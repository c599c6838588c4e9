"""What the audit reads: a data set's table, as training reads it, and how to get at its images one by one."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltjax.data import reading, summary
from ltjax.data.prepared import records
from ltjax.data.reading import images as image_files
from ltjax.data.reading.table import Files, Table
from ltjax.data.settings import Data

_AT_ONCE = 256  # records of a prepared set that are read ahead

Task = Callable[[], np.ndarray]


class Finding(NamedTuple):
    """Something to mend: its kind (a key of `checks.KINDS`), what it is in a line, and every case of it."""

    kind: str
    text: str
    cases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Source:
    """The table of a data set, and how to get at its images."""

    table: Table  # as training reads it
    layout: str  # 'folder', 'csv', 'npz', 'prepared' or 'tfds'
    ids: np.ndarray  # str [N]
    labels: np.ndarray  # class names, str [N]; '' where there is none
    class_names: tuple[str, ...]  # all classes, also those without images
    # By protocol, the side of every image as it is written, str [N]; '' where the protocol does not use it.
    splits: Mapping[str, np.ndarray]
    groups: np.ndarray  # str [N]; '' where it is not known
    tasks: Callable[[], Iterator[Task]]  # returns, for every image in order, what decodes it
    findings: Sequence[Finding] = ()  # faults of the table
    notes: Sequence[str] = ()  # what is worth knowing and no fault
    files: Sequence[pathlib.Path] = ()  # where the images lie, for a folder and a CSV
    rows: Sequence[Mapping[str, str]] = ()  # the rows of a CSV


def read(path: pathlib.Path, config: Data) -> Source:
    """Reads the table of the folder, CSV, npz or prepared set at `path`, as training with `config` would read it.

    Raises:
      UserError: nothing can be said about the set, since it is missing or has no table.
    """
    if reading.format_of(path) == 'prepared':
        records.read(path).verify()
    table = reading.survey(config)
    written, pixels = table.written, table.written.pixels
    nothing = np.full(len(table.ids), '')
    labels = nothing
    if table.labels is not None:
        labels = np.array([*table.class_names, ''])[table.labels]
    faulty = {fault.text for fault in table.faults}
    return Source(
        table,
        written.layout,
        ids=table.ids,
        labels=labels,
        class_names=table.class_names,
        splits={
            name: np.array([side or str(given) for side, given in zip(of.tolist(), written.splits[name], strict=True)],
                           dtype=np.str_)
            for name, of in table.splits.items()
        },
        groups=nothing if table.groups is None else table.groups.astype(np.str_),
        tasks=functools.partial(_tasks, pixels, config),
        findings=[
            *(Finding(fault.kind, fault.text, fault.cases) for fault in table.faults),
            *_unfit(table, 'link', 'links to folders, which are not followed'),
            *_unfit(table, 'name', 'names that cannot be written into a table, which were left out'),
        ],
        notes=[
            *(note for note in table.notes if note not in faulty),
            *([f'files that are passed over: {summary.listed(written.passed_over)}'] if written.passed_over else []),
            *_without_group(table),
        ],
        files=[pixels.root / name for name in pixels.names] if isinstance(pixels, Files) else (),
        rows=written.rows,
    )  # fmt: skip


def _unfit(table: Table, kind: str, text: str) -> list[Finding]:
    cases = tuple(each.path for each in table.excluded if each.kind == kind)
    return [Finding('layout', f'{text}: {len(cases)}', cases)] if cases else []


def _without_group(table: Table) -> list[str]:
    """Says how many images have no group, where others have one."""
    if table.groups is None:
        return []
    number = int((table.groups.astype(np.str_) == '').sum())
    return [f'images without a group, which are each their own: {number}'] if number else []


def _tasks(pixels: Any, config: Data) -> Iterator[Task]:
    if isinstance(pixels, Files):
        for name in pixels.names:
            yield functools.partial(_decode, pixels.root, name, config)
    elif isinstance(pixels, np.ndarray):
        for image in pixels:
            yield functools.partial(np.asarray, image)
    else:
        for start in range(0, len(pixels), _AT_ONCE):
            for image in pixels[np.arange(start, min(start + _AT_ONCE, len(pixels)))]:
                yield functools.partial(np.asarray, image)


def _decode(root: pathlib.Path, name: str, config: Data) -> np.ndarray:
    file = image_files.inside(root, name, allow_outside=config.allow_outside)
    return image_files.decode(file, config.channels, config.window, config.frame)
