"""Reads the files of a data set: embedded or own npz, a folder of class folders, a CSV of paths, a prepared set."""

import csv
import dataclasses
import pathlib
import zipfile
import zlib
from importlib import resources
from typing import Any

import numpy as np

from ltjax.data import images as image_files
from ltjax.data import prepared, splits
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
    """

    images: Images
    ids: np.ndarray
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    split: np.ndarray | None = None
    groups: np.ndarray | None = None


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
    ids, times = np.unique(raw.ids, return_counts=True)
    if len(ids) != len(raw.ids):
        double = str(ids[times.argmax()])
        raise UserError(
            f'{config.path or config.name} has the id {double!r} more than once: every image needs its own.'
        )
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
    directories = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    has_splits = bool(directories) and set(directories) <= set(splits.NAMES)
    paths = sorted(
        path
        for path in root.rglob('*')
        if path.is_file() and path.suffix.lower() in image_files.SUFFIXES
    )
    ids = np.array([path.relative_to(root).as_posix() for path in paths])
    if not paths:
        raise UserError(f'{root} holds no images ({", ".join(image_files.SUFFIXES)}).')
    images = image_files.load(
        paths,
        image_size=config.image_size,
        interpolation=config.interpolation,
        channels=config.channels,
    )
    if not directories:
        return Raw(images, ids)
    depth = 1 if has_splits else 0
    owners = [path.relative_to(root).parts for path in paths]
    stray = [path for path, owner in zip(paths, owners, strict=True) if len(owner) < depth + 2]
    if stray:
        raise UserError(f'{stray[0]} lies outside the class folders of {root}: move or remove it.')
    classes = [owner[depth] for owner in owners]
    names = tuple(sorted(set(classes)))
    labels = np.array([names.index(name) for name in classes])
    split = np.array([owner[0] for owner in owners]) if has_splits else None
    return Raw(images, ids, labels, names, split)


def _read_csv(config: Any) -> Raw:
    """Reads a CSV with the columns path and label and, if present, split and group; paths are relative to it."""
    root = pathlib.Path(config.path)
    if root.is_dir():
        raise UserError(
            f'{root} is a folder without a prepared set: give a CSV file, or prepare it.'
        )
    try:
        with root.open(newline='', encoding='utf-8-sig') as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = reader.fieldnames or []
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f'{root} is not a readable CSV in UTF-8 ({error}).') from None
    if 'path' not in columns:
        raise UserError(f'{root} has no column `path` (it has {", ".join(columns)}).')
    if not rows:
        raise UserError(f'{root} lists no images.')
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise UserError(f'row {number} of {root} has not {len(columns)} columns: mend it.')
    ids = np.array([row['path'] for row in rows])
    images = image_files.load(
        [
            image_files.inside(root.parent, row['path'], allow_outside=config.allow_outside)
            for row in rows
        ],
        image_size=config.image_size,
        interpolation=config.interpolation,
        channels=config.channels,
    )
    column = {name: np.array([row[name] for row in rows]) for name in columns if name != 'path'}
    labels = names = None
    if 'label' in column:
        names = tuple(sorted(set(column['label'].tolist())))
        labels = np.searchsorted(np.array(names), column['label'])
    return Raw(images, ids, labels, names, column.get('split'), groups=column.get('group'))


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
