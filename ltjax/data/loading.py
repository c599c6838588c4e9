"""Many image files to one array: those that cannot be read stop it, or are left out, listed and counted."""

import csv
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from ltjax.data import images as image_files
from ltjax.errors import UserError, unknown

ON_DAMAGED = ('stop', 'exclude')


class Excluded(NamedTuple):
    """An image that was left out: its path as the data set has it, and why."""

    path: str
    reason: str


class Loaded(NamedTuple):
    """Images uint8 [N, H, W, C], their rows in the list that was asked for, and what was left out of it."""

    images: np.ndarray
    rows: np.ndarray
    excluded: tuple[Excluded, ...]


def load(
    root: pathlib.Path, names: Sequence[str], config: Any, unfit: Sequence[Excluded] = ()
) -> Loaded:
    """Reads image files into one array.

    Args:
      root: the folder that they lie in.
      names: their paths, relative to it.
      config: `image_size` (pixels a side to resize to; 0 keeps the size, which must then be the same for
        all), `interpolation`, `channels` (0: all must agree), `allow_outside`, `max_pixels` of an
        image, and `on_damaged`: 'stop', or 'exclude' what cannot be read.
      unfit: what is known to be unreadable beside `names`.

    Raises:
      UserError: files that cannot be read (all are tried, so that their number is said) and may not be
        left out, or none that can; or files of mixed sizes or channels.
    """
    if config.on_damaged not in ON_DAMAGED:
        raise unknown('data.on_damaged', config.on_damaged, ON_DAMAGED)
    stops = config.on_damaged == 'stop'
    images: list[np.ndarray] = []
    rows: list[int] = []
    excluded = list(unfit)
    with image_files.pixel_limit(config.max_pixels):
        for row, name in enumerate(names):
            try:
                file = image_files.inside(root, name, allow_outside=config.allow_outside)
                image = image_files.decode(file, config.channels)
            except UserError as error:
                excluded.append(Excluded(name, str(error)))
                continue
            if stops and excluded:
                continue
            if config.image_size:
                image = image_files.resize(image, config.image_size, config.interpolation)
            if images:
                _check_alike(file, image, root / names[rows[0]], images[0])
            images.append(image)
            rows.append(row)
    if excluded:
        _tell(root, excluded, len(names) + len(unfit), stops)
    return Loaded(np.stack(images), np.array(rows), tuple(excluded))


def write(path: pathlib.Path, excluded: Sequence[Excluded]) -> None:
    """Writes what was left out as a CSV with the columns path and reason."""
    with path.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file, lineterminator='\n').writerows([Excluded._fields, *excluded])


def _tell(root: pathlib.Path, excluded: Sequence[Excluded], total: int, stops: bool) -> None:
    first, count = excluded[0].reason, len(excluded)
    if count == total:
        raise UserError(f'none of the {total} images of {root} can be read. The first: {first}')
    if not stops:
        logging.warning(
            '%d of %d images of %s are left out. The first: %s', count, total, root, first
        )
        return
    others = f' {count - 1} more of {total} images cannot be read.' if count > 1 else ''
    raise UserError(
        f'{first}{others} --config.data.on_damaged=exclude (predict: --on-damaged=exclude) leaves '
        f'{"them" if count > 1 else "it"} out.'
    )


def _check_alike(
    path: pathlib.Path, image: np.ndarray, first: pathlib.Path, other: np.ndarray
) -> None:
    if image.shape[2] != other.shape[2]:
        raise UserError(
            f'{path} has {image.shape[2]} channels and {first} has {other.shape[2]}: '
            'set --config.data.channels=3 (or 1).'
        )
    if image.shape != other.shape:
        raise UserError(
            f'{path} is {image.shape[1]}x{image.shape[0]} and {first} is '
            f'{other.shape[1]}x{other.shape[0]}: set --config.data.image_size=224 (say).'
        )
