"""npz files of images: `images`, and if there are `labels`, `class_names`, `split`, `group`, `ids`, further columns."""

import os
import pathlib
import struct
import zipfile
import zlib

import numpy as np

from ltjax.data import parallel
from ltjax.data.reading.table import Written
from ltjax.errors import UserError

# Without names, a label from here on is no number of a class but a sign for something else.
_MAX_CLASSES = 1_000_000

# Compressed images from here on are told of, if they should have stayed on disk: bytes.
_LARGE = 1 << 30

NO_LABEL = -1  # as a predictions file says it too
_NAMES = ('images', 'labels', 'class_names', 'split', 'group', 'ids')


def read(path: pathlib.Path, *, mapped: bool = False) -> Written:
    """Reads images uint8 [N, H, W] or [N, H, W, C] and what else there is.

    Args:
      path: the file.
      mapped: whether images stay on disk, see `some`; those that are compressed are read, and a line says so.

    Raises:
      UserError: it is no npz of plain arrays, or an array is missing or has another shape or type.
    """
    if path.is_dir() or path.suffix.lower() == '.csv':
        what = 'folder' if path.is_dir() else 'csv'
        raise UserError(
            f'{path} is no npz but a {what}: name the data {what} (--config=METHOD:{what}).'
        )
    try:
        with path.open('rb') as file, np.load(file, allow_pickle=False) as archive:
            images = _map(path, archive.zip) if mapped and 'images' in archive.files else None
            kept = {} if images is None else {'images': images}
            arrays = {name: archive[name] for name in archive.files if name not in kept} | kept
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0].split('. ')[0]
        raise UserError(
            f'{path} is not a readable npz of plain arrays ({reason}): write it with np.savez.'
        ) from None
    return written(arrays, str(path))


def _map(path: pathlib.Path, archive: zipfile.ZipFile) -> np.ndarray | None:
    """Returns `images` as they lie in the file, None if they do not lie there row by row.

    Raises:
      ValueError: they are no array.
      zipfile.BadZipFile: they are damaged.
    """
    info = archive.getinfo('images.npy')
    if info.compress_type != zipfile.ZIP_STORED:
        if info.file_size > _LARGE:
            size = info.file_size / 1e9
            parallel.to_log(
                f'{path} is compressed, so that all of its images are read into memory, {size:.2g} GB: np.savez in '
                'place of np.savez_compressed writes one that is read part by part'
            )
        return None
    with archive.open(info) as member:
        while member.read(1 << 20):  # to the end, where zipfile compares the checksum
            pass
    with path.open('rb') as file:
        file.seek(
            info.header_offset + 26
        )  # of a local header, which ends in a name and an extra field
        file.seek(sum(struct.unpack('<HH', file.read(4))), os.SEEK_CUR)
        first = np.lib.format.read_magic(file) == (1, 0)
        header = (
            np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        )
        shape, in_columns, dtype = header(file)
        if in_columns or dtype != np.uint8:  # which np.load says more of
            return None
        return np.memmap(path, dtype, 'r', file.tell(), shape)


def some(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns some of the images that `read` has; of those on disk no others stay in memory."""
    if isinstance(images, np.memmap):
        assert images.filename is not None
        images = np.memmap(images.filename, images.dtype, 'r', images.offset, images.shape)
    return np.asarray(images[rows])


def written(arrays: dict[str, np.ndarray], where: str) -> Written:
    """Returns what arrays say: images uint8 [N, H, W] or [N, H, W, C] and what else there is.

    Args:
      arrays: by the names of an npz.
      where: what they come from, for messages.

    Raises:
      UserError: an array is missing or has another shape or type.
    """
    if 'images' not in arrays:
        raise UserError(f'{where} has no array `images` (it has {", ".join(sorted(arrays))}).')
    images = arrays['images']
    if (
        images.dtype != np.uint8
        or images.ndim not in (3, 4)
        or images.shape[3:] not in ((), (1,), (3,))
    ):
        raise UserError(
            f'`images` of {where} is {images.dtype} {images.shape}: '
            'it should be uint8 [N, H, W], [N, H, W, 1] or [N, H, W, 3].'
        )
    images = images if images.ndim == 4 else images[..., np.newaxis]
    if len(images) == 0:
        raise UserError(f'{where} holds no images.')
    for name in ('ids', 'split', 'group', 'class_names'):
        if name in arrays:
            arrays[name] = _flat(arrays[name], name, where)
    further = {
        name: _flat(array, name, where)
        for name, array in arrays.items()
        if name not in _NAMES and array.shape in ((len(images),), (len(images), 1))
    }
    for name in ('labels', 'ids', 'split', 'group'):
        if name in arrays and len(np.atleast_1d(arrays[name])) != len(images):
            raise UserError(
                f'{where} has {len(images)} images but {len(np.atleast_1d(arrays[name]))} {name}.'
            )
    ids = arrays.get('ids', np.char.mod('%06d', np.arange(len(images))))
    labels, names = None, list[str]()
    made_up = 'class_names' not in arrays
    if 'labels' in arrays:
        numbers = _checked(arrays['labels'], where)
        names = _class_names(numbers, arrays.get('class_names'), where)
        labels = ['' if number == NO_LABEL else names[number] for number in numbers.tolist()]
    return Written(
        'npz',
        where,
        ids=ids.astype(str).tolist(),
        pixels=images,
        place=lambda row: f'image {row}',
        labels=labels,
        class_names=names,
        declared=True,
        ordered=made_up,  # numbers have an order
        made_up=made_up,
        splits={'split': arrays['split'].tolist()} if 'split' in arrays else {},
        groups=arrays.get('group'),
        columns=further,
        split_from='the array `split`' if 'split' in arrays else '',
    )


def _class_names(numbers: np.ndarray, given: np.ndarray | None, where: str) -> list[str]:
    """Returns the names of the classes that labels number, made up if none are given; none may lack one."""
    if given is None:
        largest = int(numbers.max())
        if largest >= _MAX_CLASSES:
            raise UserError(
                f'label {largest} of {where} is out of range: labels are classes from 0; give class_names too.'
            )
        names = [made_up_name(k) for k in range(largest + 1)]
    else:
        names = [str(name) for name in given]
    if numbers.min() < NO_LABEL or numbers.max() >= len(names):
        bad = int(numbers.min()) if numbers.min() < NO_LABEL else int(numbers.max())
        raise UserError(
            f'label {bad} of {where} is out of range: labels are 0 to {len(names) - 1}, '
            f'or {NO_LABEL} for none.'
        )
    return names


def made_up_name(label: int) -> str:
    """Returns the name of a class that has a number only."""
    return f'class {label}'


def _flat(values: np.ndarray, name: str, where: str) -> np.ndarray:
    """Returns an array of one dimension, which may come with a second of length 1; bytes become text."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise UserError(
            f'`{name}` of {where} is of shape {values.shape}: it should have one value an image.'
        )
    return np.char.decode(values, 'utf-8') if values.dtype.kind == 'S' else values


def _checked(labels: np.ndarray, where: str) -> np.ndarray:
    """Returns labels [N], which may come as [N, 1]."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f'labels of {where} are {labels.dtype}: they should be integers from 0.')
    labels = labels.reshape(len(labels), -1)
    if labels.shape[1] != 1:
        raise UserError(f'{where} has {labels.shape[1]} labels an image: it should have one.')
    return labels[:, 0]
