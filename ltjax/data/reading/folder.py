"""Folders of images: FOLDER/<class>/*, FOLDER/<split>/<class>/*, or FOLDER/* without labels."""

import os
import pathlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ltjax.data.reading import images
from ltjax.data.reading.rules import class_order
from ltjax.data.reading.table import Excluded, Fault, Files, Written
from ltjax.data.settings import Data
from ltjax.errors import UserError
from ltjax.written import values

_UNWRITABLE = re.compile('[\x00-\x1f\ud800-\udfff]')  # control characters; bytes that are not UTF-8
_ARCHIVER = '__MACOSX'  # what macOS adds to a zip file: a shadow of every file


class _Content(NamedTuple):
    """What lies in a folder, sorted; names are relative to it, with slashes."""

    images: list[str]  # also links that lead nowhere
    folders: list[str]  # at any depth
    linked: list[str]  # links to folders, which are not followed: they may lead in a circle
    unwritable: list[str]  # names of files that no table can hold, as ASCII
    unwritable_folders: list[str]
    other: Counter[str]  # other files and folders, by kind


def read(root: pathlib.Path, config: Data) -> Written:
    """Lists the folder `root`, as `subfolders` and `class_order` of a config's `data` say, without reading its images.

    Raises:
      UserError: it is none, or it or a folder in it cannot be read.
    """
    if not root.is_dir():
        raise UserError(f'{root} is not a folder: use configs/....py:npz or :csv for files.')
    content = _walk(root, dicom=bool(config.window))
    top = [name for name in content.folders if '/' not in name]
    holding = [name for name in top if any(i.startswith(f'{name}/') for i in content.images)]
    classes_given = set(class_order(config) or ())
    side_of = {
        name: side
        for name in top
        if (side := values.split_name(name)) and values.text(name) not in classes_given
    }
    beside = [name for name in holding if name not in side_of]
    has_splits = bool(side_of) and not beside
    faults, other = list[Fault](), content.other.copy()
    if side_of:
        faults += _wrong_splits(root, side_of, beside)
    if has_splits:
        other.update(f'{name}/' for name in top if name not in side_of)
    stray = [name for name in content.images if top and name.count('/') <= has_splits]
    if stray:
        faults.append(
            Fault(
                'layout',
                f'{root / stray[0]} lies outside the class folders of {root}: move or remove it.',
                f'images outside the class folders, which stop the training: {len(stray)}',
                tuple(stray),
            )
        )
    faults += _lost_folders(root, content, has_splits)
    unfit = [
        *(Excluded(name, f'{root / name} is a link to a folder, which is not followed: put the folder there.', 'link')
          for name in content.linked),
        *(Excluded(name, f'{root} has the name {name}, which no table can hold: rename it.', 'name')
          for name in content.unwritable),
    ]  # fmt: skip
    found = [name for name in content.images if name not in set(stray)]
    if not (found or stray or unfit or faults):
        message = f'{root} holds no images ({", ".join(images.SUFFIXES)}).'
        if scans := content.other['DICOM']:
            message = (
                f'{root} holds {scans} DICOM files: say which of their values become black and white, '
                '--config.data.window=LOW,HIGH, or file for the windows that are in them.'
            )
        faults.append(Fault('layout', message, message))
    if config.subfolders == 'refuse' and not faults:
        faults += _nested(root, found, has_splits, holding)
    labels, groups = list[str](), list[str]()
    for name in found:
        _, *below = name.split('/') if has_splits else ['', *name.split('/')]
        whole = '/'.join(below[:-1])
        labels.append(whole if config.subfolders == 'class' else below[0] if len(below) > 1 else '')
        groups.append('/'.join(below[1:-1]) if config.subfolders == 'group' else '')
    return Written(
        'folder',
        str(root),
        ids=found,
        pixels=Files(root, found),
        place=lambda row: str(found[row]),
        labels=labels if top else None,
        class_names=_class_folders(content.folders, labels, has_splits, side_of, config.subfolders),
        splits={'split': [name.split('/')[0] for name in found]} if has_splits else {},
        groups=groups if any(groups) else None,
        faults=faults,
        unfit=unfit,
        passed_over=other,
        split_from=f'the folders {", ".join(side_of)}' if has_splits else '',
    )


def _walk(root: pathlib.Path, *, dicom: bool) -> _Content:
    found, other = list[tuple[str, bool]](), Counter[str]()
    for parent, below, files in os.walk(root, onerror=_refuse):
        hidden = [name for name in below if name.startswith('.') or name == _ARCHIVER]
        other.update(f'{name}/' for name in hidden)  # .git, .ipynb_checkpoints
        below[:] = [name for name in below if name not in hidden]
        inside = pathlib.Path(parent).relative_to(root).as_posix()
        start = '' if inside == '.' else f'{inside}/'
        found += [(f'{start}{name}', True) for name in below]
        found += [(f'{start}{name}', False) for name in files]
    content = _Content([], [], [], [], [], other)
    for name, is_folder in sorted(found, key=lambda each: each[0].split('/')):
        if _UNWRITABLE.search(name):
            names = content.unwritable_folders if is_folder else content.unwritable
            names.append(ascii(name))
        elif is_folder:
            (content.linked if (root / name).is_symlink() else content.folders).append(name)
        elif kind := images.other_kind(root / name, dicom=dicom):
            other[kind] += 1
        else:
            content.images.append(name)
    return content


def _refuse(error: OSError) -> None:
    raise UserError(f'{error.filename} cannot be read ({error.strerror}): allow it.')


def _wrong_splits(
    root: pathlib.Path, side_of: Mapping[str, str], beside: Sequence[str]
) -> list[Fault]:
    """Finds what keeps folders that are named as splits from being one."""
    named, found = values.listed(list(side_of)), list[Fault]()
    if beside:
        others = values.listed(beside)
        found.append(
            Fault(
                'layout',
                f'{root} has folders named as splits ({named}) beside others with images ({others}): move those '
                f'elsewhere; or, if {named} are classes, list all classes in --config.data.class_order.',
                f'folders named as splits, beside others with images: {len(side_of)}',
                tuple(side_of),
            )
        )
    sides: dict[str, list[str]] = {}
    for name, side in side_of.items():
        sides.setdefault(side, []).append(name)
    for side, names in sides.items():
        if len(names) > 1:
            message = f'{root} has {" and ".join(names)}, which both mean {side}: make them one.'
            found.append(Fault('layout', message, message, tuple(names)))
    return found


def _lost_folders(root: pathlib.Path, content: _Content, has_splits: bool) -> list[Fault]:
    """Finds folders with whose images a class or a side of a split would be lost, whatever may be left out."""
    found = [
        Fault(
            'layout',
            f'{root / name} is a link to a folder in the place of a class or a split, and is not followed: put the '
            'folder there.',
            f'links in the place of classes or splits: {name}',
            (name,),
        )
        for name in content.linked
        if name.count('/') <= has_splits
    ]
    if content.unwritable_folders:
        names = content.unwritable_folders
        message = f'{root} has a folder of the name {names[0]}, which no table can hold: rename it.'
        found.append(Fault('layout', message, f'folders of such names: {len(names)}', tuple(names)))
    return found


def _nested(
    root: pathlib.Path, found: Sequence[str], has_splits: bool, holding: Sequence[str]
) -> list[Fault]:
    """Finds folders of images inside class folders: wrappers, hierarchies, patients, masks."""
    direct: dict[str, bool] = {}
    below: dict[str, set[str]] = {}
    for name in found:
        parts = name.split('/')
        folder = '/'.join(parts[: 1 + has_splits])
        inside = len(parts) > 2 + has_splits
        direct[folder] = direct.get(folder, False) or not inside
        if inside:
            below.setdefault(folder, set()).add(parts[1 + has_splits])
    if not below:
        return []
    hollow = [folder for folder in below if not direct[folder]]
    first, names = root / (hollow or list(below))[0], sorted(below[(hollow or list(below))[0]])
    inner = values.listed(names)
    sides = all(map(values.split_name, names))
    if not hollow:
        what = f'{first} holds images and also folders of images ({inner})'
        remedy = 'move those elsewhere'
    elif len(holding) == 1 and not has_splits:
        what = f'{first} holds only folders ({inner}), so it is no class'
        remedy = (
            f'if they are the {"splits" if sides else "classes"}, give --config.data.path={first}'
        )
    else:
        what = f'{first} holds only folders ({inner}), so it is no class'
        remedy = 'move the images up, or list them in a CSV'
        if sides:
            remedy = f'put the splits above the classes, as {root / names[0] / first.name}'
    return [
        Fault(
            'layout',
            f'{what}: {remedy}; or say what the inner folders are: --config.data.subfolders=group (patients or '
            'lesions), class, or flatten (nothing).',
            f'class folders that hold {"only " if hollow else ""}folders of images: {len(hollow or below)}',
            tuple(hollow or below),
        )
    ]


def _class_folders(
    folders: Sequence[str],
    labels: Sequence[str],
    has_splits: bool,
    side_of: Mapping[str, str],
    subfolders: str,
) -> list[str]:
    """Returns the classes: also those folders that should hold images of one, and hold none."""
    if subfolders == 'class':
        return sorted(set(labels))
    parts = [name.split('/') for name in folders if name.count('/') == has_splits]
    return sorted({part[-1] for part in parts if not has_splits or part[0] in side_of})
