"""Small sets of pictures to audit, and what the audit finds in them; shared by its tests."""

import csv
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ltjax.data import audit
from ltjax.data.reading import arguments


def picture(number: int, size: int = 48) -> np.ndarray:
    """Returns a smooth picture that is like no other, uint8 [size, size, 3]."""
    coarse = np.random.default_rng(number).integers(20, 236, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def save(path: pathlib.Path, pixels: np.ndarray, **options: Any) -> pathlib.Path:
    """Writes an image, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def class_folders(
    root: pathlib.Path, counts: Sequence[int] = (8, 6, 4), start: int = 0
) -> pathlib.Path:
    """Writes counts[k] pictures of class 'abc'[k]."""
    number = start
    for k, count in enumerate(counts):
        for i in range(count):
            save(root / 'abc'[k] / f'{i}.png', picture(number))
            number += 1
    return root


def table(
    path: pathlib.Path,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    encoding: str = 'utf-8',
) -> pathlib.Path:
    """Writes a CSV."""
    with path.open('w', newline='', encoding=encoding) as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def listed(folder: pathlib.Path, number: int = 12) -> list[list[str]]:
    """Writes pictures of the classes a and b; returns the rows of a table of them."""
    for i in range(number):
        save(folder / 'images' / f'{i}.png', picture(i))
    return [[f'images/{i}.png', 'ab'[i % 2]] for i in range(number)]


def examine(path: pathlib.Path, max_distance: int = 24, **settings: Any) -> Any:
    """Returns what the audit finds, with settings of the `data` part of a config."""
    config = arguments.config(path).replace(**settings)
    return audit.examine(path, config, threads=2, max_distance=max_distance)


def found(path: pathlib.Path, kind: str, **options: Any) -> list[str]:
    """Returns the findings of a kind as text."""
    return [
        f'{finding.text} [{"; ".join(finding.cases)}]'
        for finding in examine(path, **options).findings
        if finding.kind == kind
    ]


def kinds(path: pathlib.Path, **options: Any) -> list[str]:
    """Returns the kinds of all findings."""
    return [finding.kind for finding in examine(path, **options).findings]
