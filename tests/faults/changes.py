"""The data of a run in three layouts, and changes of them that a run must not go on with."""

import pathlib
import random
import shutil
from collections.abc import Callable

import numpy as np
from PIL import Image

import tiny

LAYOUTS = ('folder', 'csv', 'npz')
NAMES = ('mel', 'nv', 'bkl')


def write(folder: pathlib.Path, layout: str) -> pathlib.Path:
    """Writes `tiny.arrays` in a layout, with its split; returns the path that a config names."""
    arrays = tiny.arrays()
    folder.mkdir()
    if layout == 'npz':
        return tiny.npz(folder / 'data.npz', class_names=np.array(NAMES))
    rows = ['path,label,split']
    images, labels, sides = (arrays[name] for name in ('images', 'labels', 'split'))
    for number, (image, label, side) in enumerate(zip(images, labels, sides, strict=True)):
        where = f'{side}/{NAMES[label]}' if layout == 'folder' else 'images'
        path = folder / where / f'{number:03d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(path)
        rows.append(f'{where}/{number:03d}.png,{NAMES[label]},{side}')
    if layout == 'folder':
        return folder
    (folder / 'data.csv').write_text('\n'.join(rows) + '\n', 'utf-8')
    return folder / 'data.csv'


def content(path: pathlib.Path) -> dict[pathlib.Path, bytes]:
    """Returns what `restore` needs."""
    root = path if path.is_dir() else path.parent
    return {file: file.read_bytes() for file in root.rglob('*') if file.is_file()}


def restore(path: pathlib.Path, files: dict[pathlib.Path, bytes]) -> None:
    """Makes the data what they were, but for the times of the files."""
    root = path if path.is_dir() else path.parent
    shutil.rmtree(root)
    for file, data in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def change(path: pathlib.Path, rng: random.Random) -> tuple[str, str]:
    """Changes the data at random; returns how, and what a refusal has to name."""
    of = {'': _FOLDER, '.csv': _CSV, '.npz': _NPZ}[path.suffix]
    how = rng.choice(sorted(of))
    return how, of[how](path, rng)


def _new_picture(path: pathlib.Path, rng: random.Random) -> None:
    pixels = np.random.default_rng(rng.randrange(1 << 30)).integers(0, 256, (12, 12), np.uint8)
    Image.fromarray(pixels).save(path)


def _pick(path: pathlib.Path, rng: random.Random) -> pathlib.Path:
    return rng.choice(sorted(path.rglob('*.png')))


def _added(path: pathlib.Path, rng: random.Random) -> str:
    new = _pick(path, rng).with_name('new.png')
    _new_picture(new, rng)
    return new.relative_to(path).as_posix()


def _removed(path: pathlib.Path, rng: random.Random) -> str:
    old = _pick(path, rng)
    old.unlink()
    return old.relative_to(path).as_posix()


def _replaced(path: pathlib.Path, rng: random.Random) -> str:
    root = path if path.is_dir() else path.parent
    old = _pick(root, rng)
    _new_picture(old, rng)
    return old.relative_to(root).as_posix()


def _renamed(path: pathlib.Path, rng: random.Random) -> str:
    for folder in path.glob('*/mel'):
        folder.rename(folder.with_name('z'))
    return "'mel' gone, 'z' new"


def _to_other_side(path: pathlib.Path, rng: random.Random) -> str:
    old = rng.choice(sorted((path / 'train').rglob('*.png')))
    new = path / 'test' / old.relative_to(path / 'train')
    old.rename(new)
    return new.relative_to(path).as_posix()


def _edit(which: int, values: tuple[str, ...]) -> Callable[[pathlib.Path, random.Random], str]:
    """Returns what sets a cell of a random row to another value."""

    def edit(path: pathlib.Path, rng: random.Random) -> str:
        lines = path.read_text('utf-8').splitlines()
        row = rng.randrange(1, len(lines))
        cells = lines[row].split(',')
        cells[which] = rng.choice([value for value in values if value != cells[which]])
        lines[row] = ','.join(cells)
        path.write_text('\n'.join(lines) + '\n', 'utf-8')
        return cells[0]

    return edit


def _row_removed(path: pathlib.Path, rng: random.Random) -> str:
    lines = path.read_text('utf-8').splitlines()
    gone = lines.pop(rng.randrange(1, len(lines)))
    path.write_text('\n'.join(lines) + '\n', 'utf-8')
    return gone.split(',')[0]


def _rows_swapped(path: pathlib.Path, rng: random.Random) -> str:
    lines = path.read_text('utf-8').splitlines()
    one, other = rng.sample(range(1, len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    path.write_text('\n'.join(lines) + '\n', 'utf-8')
    return 'the order of the images changed'


def _array(name: str) -> Callable[[pathlib.Path, random.Random], str]:
    """Returns what changes one entry of an array of an npz."""

    def edit(path: pathlib.Path, rng: random.Random) -> str:
        with np.load(path) as archive:
            arrays = {key: archive[key].copy() for key in archive.files}
        at = rng.randrange(len(arrays['labels']))
        if name == 'images':
            arrays[name][at, 0, 0, 0] ^= 1
        elif name == 'labels':
            arrays[name][at] = (arrays[name][at] + 1) % 3
        elif name == 'split':
            arrays[name][at] = 'test' if arrays[name][at] != 'test' else 'train'
        else:
            arrays[name] = arrays[name][[1, 0, 2]]
        np.savez(path, **arrays)
        return 'classes or their order' if name == 'class_names' else f'{at:06d}'

    return edit


_FOLDER = {
    'added': _added, 'removed': _removed, 'replaced': _replaced, 'renamed': _renamed, 'moved': _to_other_side,
}  # fmt: skip
_CSV = {
    'label': _edit(1, NAMES),
    'split': _edit(2, ('train', 'val', 'test')),
    'replaced': _replaced,
    'row removed': _row_removed,
    'rows swapped': _rows_swapped,
}
_NPZ = {name: _array(name) for name in ('images', 'labels', 'split', 'class_names')}
