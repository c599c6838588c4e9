"""How the random data sets are written: what an image is, and the three layouts."""

import csv
import dataclasses
import pathlib
import random
from typing import Any

import numpy as np
from PIL import Image

MISSING = ('', 'NA', 'nan', 'NULL', '-', '?', ' ')
SIDES = {
    'train': ('train', 'Training', 'TRAIN', 'tr'),
    'val': ('val', 'valid', 'Validation', 'dev'),
    'test': ('test', 'Testing', 'TEST'),
}


@dataclasses.dataclass
class OneImage:
    """What an image is: its id, class, group ('' none) and side ('' none), its picture, and what is wrong with it."""

    id: str
    label: str
    group: str
    side: str
    picture: int
    fault: str = ''


def pixels(number: int) -> np.ndarray:
    """Returns a picture that is like no other."""
    return np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)


def save(path: pathlib.Path, image: OneImage, rng: random.Random) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if image.fault == 'absent':
        return
    if image.fault == 'text':
        path.write_text('no image', 'utf-8')
        return
    Image.fromarray(pixels(image.picture)).save(path, rng.choice(('PNG', 'BMP')))
    if image.fault in ('empty', 'cut'):
        content = path.read_bytes()
        path.write_bytes(b'' if image.fault == 'empty' else content[: len(content) // 2])


def write_folder(
    root: pathlib.Path, rng: random.Random, images: list[OneImage], passed_over: dict[str, int]
) -> pathlib.Path:
    folders = {side: rng.choice(ways) for side, ways in SIDES.items()}
    for number, image in enumerate(images):
        above = f'{folders[image.side]}/' if image.side else ''
        if image.fault != 'elsewhere':
            image.id = f'{above}{image.label}/{image.id}{number:03d}.png'
        save(root / 'set' / image.id, image, rng)
    strays = {'.DS_Store': '.DS_Store', 'a.txt': '.txt', '._0.png': '._*', 'Thumbs.db': '.db'}
    for stray in rng.sample(sorted(strays), 2):
        (root / 'set' / stray).write_bytes(b'x')
        passed_over[strays[stray]] = 1
    return root / 'set'


def write_csv(root: pathlib.Path, rng: random.Random, images: list[OneImage]) -> pathlib.Path:
    ways = {side: rng.choice(of) for side, of in SIDES.items()}
    floats = rng.random() < 0.3
    rows = []
    for number, image in enumerate(images):
        again = image.id == 'again'
        image.id = rows[-1][0] if again else f'images/{number:03d}.png'
        if not again:
            save(root / image.id, image, rng)
        label = f'{image.label}.0' if floats and image.label.isdigit() else image.label
        side = f'{image.side}.0' if floats and image.side.isdigit() else image.side
        rows.append([image.id, label, ways.get(side, side), image.group or rng.choice(MISSING)])
    columns = ['path', 'label', 'split', 'group']
    keep = [0, 1]
    keep += [2] if any(image.side for image in images) else []
    keep += [3] if any(image.group for image in images) else []
    with (root / 'set.csv').open(
        'w', newline='', encoding=rng.choice(('utf-8', 'utf-8-sig'))
    ) as file:
        writer = csv.writer(file)
        for row in [columns, *rows]:
            if rng.random() < 0.05:
                file.write('\r\n')
            writer.writerow([row[at] for at in keep])
    return root / 'set.csv'


def write_npz(
    root: pathlib.Path, rng: random.Random, images: list[OneImage], names: list[str]
) -> pathlib.Path:
    for number, image in enumerate(images):
        image.id = f'{number:06d}'
    arrays: dict[str, Any] = {
        'images': np.stack([pixels(image.picture) for image in images]),
        'labels': np.array([names.index(image.label) for image in images]),
        'class_names': np.array(names),
    }
    if any(image.side for image in images):
        arrays['split'] = np.array([image.side for image in images])
    if any(image.group for image in images):
        arrays['group'] = np.array([image.group for image in images])
    np.savez(root / 'set.npz', **arrays)
    return root / 'set.npz'
