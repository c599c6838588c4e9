"""Chula RBC-12: single red blood cells out of stained smears, 11 types, 20,870 cells, 20.6 to 1.

Naruenatthanaset et al., arXiv 2012.01321 (thalassaemia; MIT licence). Get
https://github.com/Chula-PIC-Lab/Chula-RBC-12-Dataset:

    Dataset/<n>.jpg         738 smears of 640x480
    Label/<n>.txt           of 623 of them; a line `x y code` a cell, x and y its middle

    python -m data_prep.chula_rbc12 --source DIR --out PREPARED

A cell becomes the 72x72 pixels around its middle (reflected at the border), resized to 32x32, bilinear.

The traps: 22 pairs of smears are the same picture, and others nearly: they are one group here (`same_field`), and
`clean_6_2_2` and `clean_5_fold` keep a group, hence a smear, together. There is no split by cell in this program: it
would leak. Between two copies of a smear 16 % of the labels differ, so that nothing can be right
much more often than 85 %. Two codes are left out: 10 (uncategorised) and 12 (elliptocytes: all of one stain, which
gives them away). Patients are not named.
"""

import argparse
import functools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from data_prep.tools import groups, tool
from ltjax.data.prepared.writing import Item
from ltjax.data.reading import images as image_files
from ltjax.errors import UserError

CODES = {
    0: 'normal cell', 1: 'macrocyte', 2: 'microcyte', 3: 'spherocyte', 4: 'target cell', 5: 'stomatocyte',
    6: 'ovalocyte', 7: 'teardrop', 8: 'burr cell', 9: 'schistocyte', 11: 'hypochromia',
}  # fmt: skip
LEFT_OUT = (10, 12)
CLASSES = tuple(CODES.values())
COUNTS = dict(
    zip(CLASSES, (6330, 689, 461, 3449, 2753, 1996, 2140, 307, 785, 897, 1063), strict=True)
)
CROP = 72
SAME_FIELD = 20  # bits; two fields differ in about 128
ORIGIN = 'Get https://github.com/Chula-PIC-Lab/Chula-RBC-12-Dataset.'


def read_cells(path: pathlib.Path) -> list[tuple[int, int, int]]:
    """Returns x, y and code of every cell of a label file.

    Raises:
      UserError: a line that is not three such numbers.
    """
    cells = []
    for number, line in enumerate(path.read_text('utf-8', errors='replace').splitlines(), 1):
        if not line.strip():
            continue
        try:
            x, y, code = (int(value) for value in line.split())
        except ValueError:
            raise UserError(f'line {number} of {path} is not `x y code`: get it again.') from None
        if code not in CODES and code not in LEFT_OUT:
            raise UserError(f'line {number} of {path} has the code {code}, which is not 0 to 12.')
        cells.append((x, y, code))
    return cells


@functools.lru_cache(maxsize=16)  # the cells of a smear follow one another
def _padded(path: pathlib.Path) -> np.ndarray:
    margin = (CROP // 2, CROP // 2)
    return np.pad(image_files.decode(path, 3), (margin, margin, (0, 0)), mode='reflect')


def crop(path: pathlib.Path, x: int, y: int, size: int) -> np.ndarray:
    """Returns the cell around (x, y), uint8 [size, size, 3].

    Raises:
      UserError: the smear cannot be read, or ends before (x, y).
    """
    smear = _padded(path)
    if not (0 <= x < smear.shape[1] - CROP and 0 <= y < smear.shape[0] - CROP):
        raise UserError(f'{path} has no pixel {x}, {y}: its label file is of another image.')
    cell = Image.fromarray(smear[y : y + CROP, x : x + CROP])
    return np.asarray(cell.resize((size, size), Image.Resampling.BILINEAR))


def _cell(path: pathlib.Path, x: int, y: int, size: int) -> Callable[[], np.ndarray]:
    return lambda: crop(path, x, y, size)


def same_field(thumbnails: np.ndarray) -> Iterator[np.ndarray]:
    """Finds smears that show one field, also a few pixels further: cells leave no flat background to be misled by.

    Args:
      thumbnails: uint8 [N, 16, 17].

    Yields:
      int64 [P, 2]: pairs whose difference hashes differ in at most `SAME_FIELD` of 256 bits.
    """
    rises = thumbnails[:, :, 1:] > thumbnails[:, :, :-1]
    hashes = np.packbits(rises.reshape(len(thumbnails), -1), axis=1)
    for at, own in enumerate(hashes):
        apart = np.bitwise_count(hashes[at + 1 :] ^ own[None]).sum(axis=1, dtype=np.int64)
        close = np.flatnonzero(apart <= SAME_FIELD) + at + 1
        yield np.stack([np.full_like(close, at), close], axis=1)


def read(source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads the label files and finds out which smears are the same."""
    folder = tool.find(source, 'Label', ORIGIN)
    tables = sorted(
        (path for path in folder.glob('*.txt') if path.stem.isdigit()), key=lambda p: int(p.stem)
    )
    cells = {path.stem: read_cells(path) for path in tables}
    smears = tool.index_images(tool.find(source, 'Dataset', ORIGIN))
    names = tool.matched(cells, smears, partial=arguments.partial, origin=ORIGIN)
    labels = {code: label for label, code in enumerate(CODES)}
    items = [
        Item(f'{name}-{number:03d}', labels[code], _cell(smears[name], x, y, arguments.size), name)
        for name in names
        for number, (x, y, code) in enumerate(cells[name])
        if code in CODES
    ]
    tool.check_counts(items, CLASSES, COUNTS, arguments.partial)
    group = groups.of_near_duplicates(
        {name: smears[name] for name in names}, arguments.threads, same_field
    )
    items = [item._replace(group=group[item.group]) for item in items]
    splits = tool.draw(items, ('clean_6_2_2', 'clean_5_fold'), arguments.seed)
    return tool.Content(CLASSES, items, splits)


SOURCE = tool.Source(
    name='chula_rbc12',
    origin=ORIGIN,
    licence='MIT',
    read=read,
    image_size=32,
    encoding='png',
)

if __name__ == '__main__':
    tool.run(SOURCE, __doc__)
