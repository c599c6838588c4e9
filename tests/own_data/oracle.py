"""Random data sets with faults, and what is right for each: written from the documents, without the readers' code.

`draw` writes a set in one of the layouts and knows of every image what it is: which class, group and side were meant.
From that alone follows whether training may take it, and what must come out if it does.
"""

import csv
import dataclasses
import pathlib
import random
import unicodedata
from typing import Any

import numpy as np
from PIL import Image

MISSING = ('', 'NA', 'nan', 'NULL', '-', '?', ' ')
SIDES = {
    'train': ('train', 'Training', 'TRAIN', 'tr'),
    'val': ('val', 'valid', 'Validation', 'dev'),
    'test': ('test', 'Testing', 'TEST'),
}
NAMES = (
    ('melanoma', 'nevus', 'bcc'),
    ('0', '1', '2', '10', '9'),
    ('grade 1', 'grade 2', 'grade 10'),
    ('kératose', 'naevus', 'Läsion'),
    ('_background', 'a$b', 'x y'),
)


@dataclasses.dataclass
class Image_:
    """What an image is: its id, class, group ('' none) and side ('' none), its picture, and what is wrong with it."""

    id: str
    label: str
    group: str
    side: str
    picture: int
    fault: str = ''


@dataclasses.dataclass
class Drawn:
    """A data set on disk.

    Attributes:
      path: of it.
      images: what it holds.
      settings: of the `data` part of a config.
      order: the classes in the order that is right.
      refuse: why training must refuse it; empty if it must take it.
    """

    path: pathlib.Path
    images: list[Image_]
    settings: dict[str, Any]
    order: list[str]
    refuse: list[str]
    passed_over: dict[str, int]


def pixels(number: int) -> np.ndarray:
    """Returns a picture that is like no other."""
    return np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)


def draw(root: pathlib.Path, seed: int) -> Drawn:
    """Writes the data set number `seed`."""
    rng = random.Random(seed)
    layout = rng.choice(('folder', 'csv', 'npz'))
    names = list(rng.choice(NAMES))
    images = _images(rng, names, layout)
    settings: dict[str, Any] = {}
    refuse = list[str]()
    folds = rng.random() < 0.2
    if rng.random() < 0.6:
        _give_sides(rng, images, layout, folds and layout != 'folder', settings)
    for fault in rng.sample(FAULTS, k=rng.choice((0, 0, 1, 2, 3))):
        fault(rng, images, layout, settings, refuse)
    if rng.random() < 0.3:
        settings['on_damaged'] = 'exclude'
    if rng.random() < 0.3:
        settings['on_unlabelled'] = 'exclude'
    passed_over: dict[str, int] = {}
    if layout == 'folder':
        path = _write_folder(root, rng, images, passed_over)
    elif layout == 'csv':
        path = _write_csv(root, rng, images)
    else:
        path = _write_npz(root, rng, images, names)
    refuse += _verdict(images, settings)
    return Drawn(path, images, settings, _order(names, layout), refuse, passed_over)


def _images(rng: random.Random, names: list[str], layout: str) -> list[Image_]:
    """Returns images of every class, some in groups of two to four."""
    found, number = [], rng.randrange(1000) * 1000
    groups = layout != 'folder' and rng.random() < 0.5
    for name in names:
        left = rng.randint(24, 40)
        while left > 0:
            size = min(left, rng.randint(1, 3)) if groups else 1
            group = f'p{number}' if groups and rng.random() < 0.8 else ''
            for _ in range(size):
                found.append(Image_('', name, group, '', number))
                number += 1
            left -= size
    rng.shuffle(found)
    return found


def _give_sides(
    rng: random.Random, images: list[Image_], layout: str, folds: bool, settings: dict[str, Any]
) -> None:
    """Marks every image, whole groups together, so that every class is on every side."""
    names = rng.choice(([1, 2, 3], [0, 1, 2], [4, 7, 9])) if folds else ['train', 'val', 'test']
    if not folds and rng.random() < 0.4:
        names.remove('val')
    if folds:
        settings['split.fold'] = rng.choice(names)
    side_of: dict[tuple[str, str], str] = {}
    turn: dict[str, int] = {}
    for image in images:
        key = (image.label, image.group or f'alone {image.picture}')
        if key not in side_of:
            at = turn[image.label] = turn.get(image.label, -1) + 1
            side_of[key] = str(names[(0, 0, *range(len(names)))[at % (2 + len(names))]])
        image.side = side_of[key]


# Faults: each changes the images, or adds to `refuse` why nothing can be made of them.


def unlabelled(rng, images, layout, settings, refuse):
    if layout != 'csv':
        return
    for image in rng.sample(images, 2):
        image.label = rng.choice(MISSING)


def damaged(rng, images, layout, settings, refuse):
    if layout == 'npz':
        return
    for image in rng.sample(images, rng.randint(1, 2)):
        image.fault = rng.choice(('empty', 'cut', 'text'))


def copied(rng, images, layout, settings, refuse):
    """One picture is there twice: in one class, so that it is no contradiction."""
    one = rng.choice(images)
    others = [image for image in images if image.label == one.label and image is not one]
    if others and not one.fault:
        other = rng.choice(others)
        other.picture, other.fault = one.picture, ''


def crossing(rng, images, layout, settings, refuse):
    """A group lies on two sides, if there are any."""
    one, other = rng.sample(images, 2)
    if layout != 'folder' and images[0].side:
        one.group = other.group = 'crossing'


def respelled(rng, images, layout, settings, refuse):
    """A label in two ways that mean one thing."""
    if layout == 'npz':
        return
    image = rng.choice([image for image in images if image.label.strip() not in MISSING])
    image.label = unicodedata.normalize('NFD', image.label)


def capitals(rng, images, layout, settings, refuse):
    """A label in capitals, which may be another class or not: nobody knows."""
    image = rng.choice(images)
    if layout == 'npz' or image.label.upper() == image.label or image.label.strip() in MISSING:
        return
    image.label = image.label.upper()
    refuse.append('spelling')


def lost_group(rng, images, layout, settings, refuse):
    for image in rng.sample(images, 5):
        image.group = ''


def unknown_side(rng, images, layout, settings, refuse):
    image = rng.choice(images)
    if layout != 'folder' and image.side:
        image.side = rng.choice(('holdout', '', 'NA', '1.5'))
        refuse.append('unknown split')


def beside(rng, images, layout, settings, refuse):
    """Images lie beside the folders of a split."""
    if layout == 'folder' and images[0].side:
        images.append(Image_('samples/a.png', 'samples', '', '', 77, 'elsewhere'))
        refuse.append('beside splits')


def hollow(rng, images, layout, settings, refuse):
    """A class folder holds only a folder."""
    if layout == 'folder':
        label = rng.choice(images).label
        for image in images:
            if image.label == label:
                image.id = 'inside/'
        refuse.append('hollow')


def empty_class(rng, images, layout, settings, refuse):
    if layout == 'folder':
        images.append(Image_('', 'void', '', images[0].side, 78, 'absent'))
        refuse.append('empty class')


def listed_twice(rng, images, layout, settings, refuse):
    if layout == 'csv':
        images.append(dataclasses.replace(rng.choice(images), id='again'))
        refuse.append('listed twice')


FAULTS = (
    *(beside, hollow, empty_class, listed_twice),
    *(unlabelled, damaged, copied, crossing, respelled, capitals, lost_group, unknown_side),
)


# What is right.


def canonical(label: str) -> str:
    """Returns the class that a label means, '' for none."""
    text = unicodedata.normalize('NFC', label).strip()
    return '' if text in MISSING else text


def kept(images: list[Image_], settings: dict[str, Any]) -> list[Image_]:
    """Returns the images that a run may see."""
    return [image for image in images if not image.fault and canonical(image.label)]


def _order(names: list[str], layout: str) -> list[str]:
    if layout == 'npz':
        return names
    if names[0].isdigit():
        return sorted(names, key=int)
    if names[0].startswith('grade'):
        return sorted(names, key=lambda name: int(name.split()[1]))
    return sorted(unicodedata.normalize('NFC', name) for name in names)


def _verdict(images: list[Image_], settings: dict[str, Any]) -> list[str]:
    """Returns what follows from the images: faults that are not excluded, and leaks."""
    refuse = []
    if (
        any(not canonical(image.label) for image in images)
        and settings.get('on_unlabelled') != 'exclude'
    ):
        refuse.append('unlabelled')
    if (
        any(image.fault for image in kept_but_damaged(images))
        and settings.get('on_damaged') != 'exclude'
    ):
        refuse.append('damaged')
    sides: dict[str, set[str]] = {}
    for image in kept(images, settings):
        if image.side:
            if image.group:
                sides.setdefault(f'group {image.group}', set()).add(image.side)
            sides.setdefault(f'picture {image.picture}', set()).add(image.side)
    if any(len(on) > 1 for on in sides.values()):
        refuse.append('leak')
    return refuse


def kept_but_damaged(images: list[Image_]) -> list[Image_]:
    """Returns the images that would be read: those that have a label."""
    return [image for image in images if canonical(image.label)]


# How it is written.


def _save(path: pathlib.Path, image: Image_, rng: random.Random) -> None:
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


def _write_folder(
    root: pathlib.Path, rng: random.Random, images: list[Image_], passed_over: dict[str, int]
) -> pathlib.Path:
    folders = {side: rng.choice(ways) for side, ways in SIDES.items()}
    for number, image in enumerate(images):
        above = f'{folders[image.side]}/' if image.side else ''
        if image.fault != 'elsewhere':
            image.id = f'{above}{image.label}/{image.id}{number:03d}.png'
        _save(root / 'set' / image.id, image, rng)
    strays = {'.DS_Store': '.DS_Store', 'a.txt': '.txt', '._0.png': '._*', 'Thumbs.db': '.db'}
    for stray in rng.sample(sorted(strays), 2):
        (root / 'set' / stray).write_bytes(b'x')
        passed_over[strays[stray]] = 1
    return root / 'set'


def _write_csv(root: pathlib.Path, rng: random.Random, images: list[Image_]) -> pathlib.Path:
    ways = {side: rng.choice(of) for side, of in SIDES.items()}
    floats = rng.random() < 0.3
    rows = []
    for number, image in enumerate(images):
        again = image.id == 'again'
        image.id = rows[-1][0] if again else f'images/{number:03d}.png'
        if not again:
            _save(root / image.id, image, rng)
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


def _write_npz(
    root: pathlib.Path, rng: random.Random, images: list[Image_], names: list[str]
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
