"""Data sets as users have them: pictures that all differ, in folders, tables and archives; shared by these tests."""

import csv
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltjax.data import audit, catalog, datasets
from ltjax.data.datasets import DataSet
from ltjax.errors import UserError


def pixels(number: int, size: int = 8) -> np.ndarray:
    """Returns a picture that is like no other, uint8 [size, size, 3]."""
    return np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)


def save(path: pathlib.Path, number: int, size: int = 8, **options: Any) -> pathlib.Path:
    """Writes picture `number`, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(number, size)).save(path, **options)
    return path


def folder(root: pathlib.Path, counts: Mapping[str, int], start: int = 0) -> pathlib.Path:
    """Writes counts[name] pictures into each folder `name`."""
    number = start
    for name, count in counts.items():
        for i in range(count):
            save(root / name / f'{i}.png', number)
            number += 1
    return root


def table(
    path: pathlib.Path, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> pathlib.Path:
    """Writes a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def pictures(root: pathlib.Path, count: int) -> list[str]:
    """Writes pictures 0 to count-1 below `root`; returns their paths relative to it."""
    for number in range(count):
        save(root / 'images' / f'{number}.png', number)
    return [f'images/{number}.png' for number in range(count)]


def config(path: pathlib.Path, **changes: Any) -> Any:
    """Returns the `data` part of a config that reads `path`; `split__fold` means split.fold."""
    kind = 'folder' if path.is_dir() else path.suffix[1:]
    made = catalog.get(kind)
    made.path = str(path)
    made.update_from_flattened_dict({k.replace('__', '.'): v for k, v in changes.items()})
    return made


def load(path: pathlib.Path, **changes: Any) -> DataSet:
    """Loads as training does."""
    return datasets.load(config(path, **changes))


def refused(path: pathlib.Path, **changes: Any) -> str:
    """Returns the one line with which training and the audit refuse a set, which is the same."""
    with pytest.raises(UserError) as error:
        load(path, **changes)
    said = str(error.value)
    assert '\n' not in said
    assert audited(path, **changes) == said
    return said


def audited(path: pathlib.Path, **changes: Any) -> str:
    """Returns what the audit says that training says, '' if it takes the set."""
    try:
        return audit.examine(path, config(path, **changes), max_distance=0).refusal
    except UserError as refusal:  # no table can be made
        return str(refusal)


def taken(path: pathlib.Path, **changes: Any) -> DataSet:
    """Loads a set that the audit lets pass too."""
    refusal = audited(path, **changes)
    assert not refusal, refusal
    return load(path, **changes)


def by_class(data: DataSet) -> dict[str, int]:
    """Returns the images of each class, in the order of the classes."""
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    return dict(zip(data.class_names, counts.tolist(), strict=True))
