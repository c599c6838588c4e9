"""Reads the files of a data set: embedded or own npz, a folder of class folders, a CSV of paths, a prepared set."""

import dataclasses
import os
import pathlib
import zipfile
import zlib
from importlib import resources
from typing import Any

import numpy as np
from absl import logging

from ltjax.data import folders, loading, prepared, tables
from ltjax.data import images as image_files
from ltjax.data.loading import Excluded
from ltjax.errors import UserError, unknown

# A prepared set up to this size is decoded once; a larger one batch by batch.
IN_MEMORY_BYTES = 1 << 32

Images = np.ndarray | prepared.StoredImages


@dataclasses.dataclass(frozen=True)
class Raw:
    """What the files say, before splitting; fields as in `DataSet`, None where they are silent.

    Attributes:
      split: str [N]: 'train', 'val' or 'test'; or numbers of folds.
      groups: int or str [N]; images of one group (patient, lesion) stay on one side.
      excluded: files that are not among the images, since they cannot be read.
    """

    images: Images
    ids: np.ndarray
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    split: np.ndarray | None = None
    groups: np.ndarray | None = None
    excluded: tuple[Excluded, ...] = ()


def read(config: Any) -> Raw:
    """Reads the files that `config` (format, path, image_size, channels) names, without splitting.

    A path given for the embedded set stands in for its file. A folder with a manifest.json is a prepared
    set, whatever the format says.
    """
    readers = {
        'embedded': _read_embedded,
        'npz': _read_npz,
        'folder': _read_folder,
        'csv': _read_csv,
        'prepared': _read_prepared,
    }
    if config.format not in readers:
        raise unknown('data format', config.format, readers)
    format_ = 'npz' if config.format == 'embedded' and config.path else config.format
    if format_ != 'embedded':
        if not config.path:
            raise UserError(f'data set {config.name!r} needs its files: set --config.data.path=...')
        if not pathlib.Path(config.path).exists():
            raise UserError(f'{config.path} does not exist: correct --config.data.path.')
        if any((pathlib.Path(config.path) / name).exists() for name in prepared.FILES):
            format_ = 'prepared'
    raw = readers[format_](config)
    if len(raw.images) == 0:
        raise UserError(f'{config.path} holds no images.')
    _check_ids(config.path or config.name, raw.ids, raw.split)
    return raw


def _read_embedded(config: Any) -> Raw:
    resource = resources.files('ltjax.data') / 'embedded' / f'{config.name}.npz'
    with resources.as_file(resource) as path:
        return _from_npz(path, config)


def _read_npz(config: Any) -> Raw:
    return _from_npz(pathlib.Path(config.path), config)


def _from_npz(path: pathlib.Path, config: Any) -> Raw:
    """Reads images uint8 [N, H, W] or [N, H, W, C] and, where present, labels, ids, split, group, class_names."""
    try:
        with path.open('rb') as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0].split('. ')[0]
        raise UserError(
            f'{path} is not a readable npz of plain arrays ({reason}): write it with np.savez.'
        ) from None
    if 'images' not in arrays:
        raise UserError(f'{path} has no array `images` (it has {", ".join(sorted(arrays))}).')
    images = arrays['images']
    if (
        images.dtype != np.uint8
        or images.ndim not in (3, 4)
        or images.shape[3:] not in ((), (1,), (3,))
    ):
        raise UserError(
            f'`images` of {path} is {images.dtype} {images.shape}: '
            'it should be uint8 [N, H, W], [N, H, W, 1] or [N, H, W, 3].'
        )
    images = images if images.ndim == 4 else images[..., np.newaxis]
    for name in ('labels', 'ids', 'split', 'group'):
        if name in arrays and len(arrays[name]) != len(images):
            raise UserError(f'{path} has {len(images)} images but {len(arrays[name])} {name}.')
    names = arrays.get('class_names')
    ids = arrays.get('ids', np.char.mod('%06d', np.arange(len(images))))
    return Raw(
        images=_conform(images, config),
        ids=ids.astype(str),
        labels=arrays.get('labels'),
        class_names=None if names is None else tuple(str(name) for name in names),
        split=arrays.get('split'),
        groups=arrays.get('group'),
    )


def _conform(images: np.ndarray, config: Any) -> np.ndarray:
    """Brings stored images to the size and channels that the config asks for."""
    if config.image_size and images.shape[1:3] != (config.image_size,) * 2:
        images = np.stack(
            [image_files.resize(image, config.image_size, config.interpolation) for image in images]
        )
    if config.channels == 3 and images.shape[3] == 1:
        images = np.repeat(images, 3, axis=3)
    if config.channels == 1 and images.shape[3] == 3:
        # The luma weights of ITU-R BT.601, as Pillow's conversion to grey.
        images = np.round(images @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[
            ..., np.newaxis
        ]
    return images


def _read_folder(config: Any) -> Raw:
    """Reads FOLDER/<class>/*.png; or FOLDER/<split>/<class>/*.png; or, without labels, FOLDER/*.png."""
    root = pathlib.Path(config.path)
    if not root.is_dir():
        raise UserError(f'{root} is not a folder: use configs/....py:npz or :csv for files.')
    found = folders.read(root)
    unfit = [
        *(Excluded(name, f'{root / name} is a link to a folder, which is not followed: put the '
                   'folder there.') for name in found.linked),
        *(Excluded(name, f'{root} has the name {name}, which no table can hold: rename it.')
          for name in found.unwritable),
    ]  # fmt: skip
    if found.stray:
        raise UserError(
            f'{root / found.stray[0]} lies outside the class folders of {root}: move or remove it.'
        )
    if not found.files and not unfit:
        raise UserError(f'{root} holds no images ({", ".join(image_files.SUFFIXES)}).')
    if found.other:
        listed = ', '.join(f'{count} {suffix}' for suffix, count in found.other.most_common(5))
        logging.warning('files of %s that are passed over: %s', root, listed)
    images, rows, excluded = loading.load(root, found.files, config, unfit)
    ids = np.array(found.files)[rows]
    if not found.directories:
        return Raw(images, ids, excluded=excluded)
    classes = np.array([found.class_of(name) for name in ids.tolist()])
    labels = np.searchsorted(np.array(found.classes), classes)
    split = np.array([name.split('/')[0] for name in ids.tolist()]) if found.has_splits else None
    return Raw(images, ids, labels, tuple(found.classes), split, excluded=excluded)


def _read_csv(config: Any) -> Raw:
    """Reads a CSV with the columns path and label and, if present, split and group; paths are relative to it."""
    root = pathlib.Path(config.path)
    if root.is_dir():
        raise UserError(
            f'{root} is a folder without a prepared set: give a CSV file, or prepare it.'
        )
    columns, rows = tables.read(root)
    if not rows:
        raise UserError(f'{root} lists no images.')
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise UserError(f'row {number} of {root} has not {len(columns)} columns: mend it.')
        if not row['path'].strip():
            raise UserError(f'row {number} of {root} has no path: give one or remove the row.')
    column = {
        name: np.array([row[name] for row in rows]) for name in tables.COLUMNS if name in columns
    }
    names = _label_names(root, column.get('label'))
    _check_ids(
        str(root), np.array([os.path.normpath(row['path']) for row in rows]), column.get('split')
    )
    images, kept, excluded = loading.load(root.parent, [row['path'] for row in rows], config)
    column = {name: values[kept] for name, values in column.items()}
    labels = None if names is None else np.searchsorted(np.array(names), column['label'])
    return Raw(
        images, column['path'], labels, names, column.get('split'), column.get('group'), excluded
    )


def _label_names(root: pathlib.Path, labels: np.ndarray | None) -> tuple[str, ...] | None:
    """Returns the classes that a CSV names, sorted; None if it has no labels, or a column of empty ones."""
    if labels is None or not np.any(labels != ''):
        return None
    names = tuple(sorted(set(labels.tolist())))
    if '' in names:
        row = int(np.argmax(labels == '')) + 2
        raise UserError(f'row {row} of {root} has no label: give one or remove the row.')
    plain: dict[str, str] = {}
    for name in names:
        other = plain.setdefault(' '.join(name.split()), name)
        if other != name:
            raise UserError(
                f'{root} has the labels {other!r} and {name!r}, which differ in blanks: make them one.'
            )
    return names


def _check_ids(where: str, ids: np.ndarray, split: np.ndarray | None) -> None:
    """Refuses ids that are there twice."""
    values, times = np.unique(ids, return_counts=True)
    if len(values) == len(ids):
        return
    double = values[times.argmax()]
    sides = [] if split is None else sorted(set(split[ids == double].astype(str).tolist()))
    sides_text = f' (in the splits {" and ".join(sides)})' if len(sides) > 1 else ''
    raise UserError(
        f'{where} has the id {str(double)!r} more than once{sides_text}: every image needs its own.'
    )


def _read_prepared(config: Any) -> Raw:
    """Reads a prepared set, as far as the protocol `config.split.protocol` uses it."""
    made = prepared.read(pathlib.Path(config.path))
    protocols = list(made.manifest['splits'])
    name = config.split.protocol or (protocols[0] if len(protocols) == 1 else '')
    groups = made.groups if (made.groups != '').any() else None
    if not name and protocols:
        raise UserError(
            f'{config.path} has the splits {", ".join(protocols)}: choose one with '
            '--config.data.split.protocol=..., or draw one with =none.'
        )
    used, split = np.arange(len(made.ids)), None
    if name not in ('', 'none'):
        column = made.split(name)
        used = np.flatnonzero(column != '')
        split = column[used]
    stored = made.stored(lambda images: _conform(images, config)).select(used)
    return Raw(
        images=stored[:] if stored.nbytes <= IN_MEMORY_BYTES else stored,
        ids=made.ids[used],
        labels=made.labels[used],
        class_names=made.class_names,
        split=split,
        groups=None if groups is None else groups[used],
    )
