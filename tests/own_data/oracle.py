"""Random data sets with faults, and what is right for each: written from the documents, without the readers' code.

`draw` writes a set in one of the layouts and knows of every image what it is: which class, group and side were meant.
From that alone follows whether training may take it, and what must come out if it does.
"""

import dataclasses
import pathlib
import random
import unicodedata
from typing import Any

from own_data import writing
from own_data.writing import MISSING, OneImage

NAMES = (
    ('melanoma', 'nevus', 'bcc'),
    ('0', '1', '2', '10', '9'),
    ('grade 1', 'grade 2', 'grade 10'),
    ('kératose', 'naevus', 'Läsion'),
    ('_background', 'a$b', 'x y'),
)


@dataclasses.dataclass
class Drawn:
    """A data set on disk.

    Attributes:
      path: of it.
      images: what it holds.
      settings: of the `data` part of a config.
      order: the classes in the order that is right.
      refuse: why training must refuse it; empty if it must take it.
      passed_over: files that are no images, by kind.
    """

    path: pathlib.Path
    images: list[OneImage]
    settings: dict[str, Any]
    order: list[str]
    refuse: list[str]
    passed_over: dict[str, int]


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
        path = writing.write_folder(root, rng, images, passed_over)
    elif layout == 'csv':
        path = writing.write_csv(root, rng, images)
    else:
        path = writing.write_npz(root, rng, images, names)
    refuse += _verdict(images, settings)
    return Drawn(path, images, settings, _order(names, layout), refuse, passed_over)


def _images(rng: random.Random, names: list[str], layout: str) -> list[OneImage]:
    """Returns images of every class, some in groups of two to four."""
    found, number = [], rng.randrange(1000) * 1000
    groups = layout != 'folder' and rng.random() < 0.5
    for name in names:
        left = rng.randint(24, 40)
        while left > 0:
            size = min(left, rng.randint(1, 3)) if groups else 1
            group = f'p{number}' if groups and rng.random() < 0.8 else ''
            for _ in range(size):
                found.append(OneImage('', name, group, '', number))
                number += 1
            left -= size
    rng.shuffle(found)
    return found


def _give_sides(
    rng: random.Random, images: list[OneImage], layout: str, folds: bool, settings: dict[str, Any]
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
        images.append(OneImage('samples/a.png', 'samples', '', '', 77, 'elsewhere'))
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
        images.append(OneImage('', 'void', '', images[0].side, 78, 'absent'))
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


def kept(images: list[OneImage]) -> list[OneImage]:
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


def _verdict(images: list[OneImage], settings: dict[str, Any]) -> list[str]:
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
    for image in kept(images):
        if image.side:
            if image.group:
                sides.setdefault(f'group {image.group}', set()).add(image.side)
            sides.setdefault(f'picture {image.picture}', set()).add(image.side)
    if any(len(on) > 1 for on in sides.values()):
        refuse.append('leak')
    return refuse


def kept_but_damaged(images: list[OneImage]) -> list[OneImage]:
    """Returns the images that would be read: those that have a label."""
    return [image for image in images if canonical(image.label)]
