"""Reads a data set, whatever its form: first its table (`survey`), then its images (`read`).

Training, the audit, prediction and pictures of views all read here; the rules are in `rules` and `values`.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from importlib import resources

import numpy as np

from ltjax import files
from ltjax.data.prepared import records
from ltjax.data.reading import (
    csv_table,
    decoding,
    folder,
    npz,
    prepared_set,
    spellings,
    tfds_set,
    windows,
)
from ltjax.data.reading import images as image_files
from ltjax.data.reading.rules import make
from ltjax.data.reading.table import Excluded, Files, Table, Written
from ltjax.data.settings import Data
from ltjax.errors import UserError

# Of a file, when no format is given.
FORMAT_OF_SUFFIX = {'.npz': 'npz', '.csv': 'csv'}

# A prepared set up to this size is decoded once; a larger one batch by batch.
IN_MEMORY_BYTES = 1 << 32

Images = np.ndarray | records.StoredImages


@dataclasses.dataclass(frozen=True)
class Raw:
    """A data set that was read, before it is split. N are the images that could be read and are not left out.

    Attributes:
      images: uint8 [N, H, W, C], in memory or, for large prepared sets, on disk.
      rows: int64 [N], of the table.
      ids: str [N], unique.
      labels: int32 [N], -1 where there is none; None if no image has one.
      class_names: the K classes.
      groups: int or str [N], '' where there is none; None if no image has one.
      digests: str [N], of pixels, see `images.digest`; '' for published sets that stay on disk.
      contents: str [N], of files' bytes or of pixels, by which a changed image is known; '' for prepared sets.
      stamps: int64 [N, 2], size and time of change of the images' files; 0 where they have none of their own.
      excluded: what was left out.
      table: the rest of what the files say.
    """

    images: Images
    rows: np.ndarray
    ids: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    groups: np.ndarray | None
    digests: np.ndarray
    contents: np.ndarray
    stamps: np.ndarray
    excluded: tuple[Excluded, ...]
    table: Table


def survey(config: Data, *, mapped: bool = False) -> Table:
    """Returns the table of the files that `config` (the `data` part of a config) names, without decoding images.

    A path given for the embedded set stands in for its file. A folder with a manifest.json is a prepared
    set, whatever the format says. Of an npz, images stay on disk if `mapped`.

    Raises:
      UserError: nothing can be said of the files. What is wrong in them is among the table's faults.
    """
    windows.parse(config.window)  # a mistake in it is said before a file is read
    return make(spellings.applied(_written(config, mapped), config), config)


def format_of(path: pathlib.Path) -> str:
    """Returns the format of a path: 'folder', 'prepared', 'tfds', 'npz' or 'csv'.

    Raises:
      UserError: it is not there, or none of these.
    """
    if not path.exists():
        raise UserError(f'{path} does not exist: correct the path.')
    if path.is_dir():
        if records.is_one(path):
            return 'prepared'
        return 'tfds' if tfds_set.folders(path) else 'folder'
    if path.suffix.lower() not in FORMAT_OF_SUFFIX:
        raise UserError(f'{path} is no folder, .csv or .npz: give one of these.')
    return FORMAT_OF_SUFFIX[path.suffix.lower()]


def _written(config: Data, mapped: bool) -> Written:
    if config.format == 'embedded' and not config.path:
        resource = resources.files('ltjax.data') / 'embedded' / f'{config.name}.npz'
        with resources.as_file(resource) as path:
            return dataclasses.replace(npz.read(path), where=config.name)
    if not config.path:
        raise UserError(f'data set {config.name!r} needs its files: set --config.data.path=...')
    path = files.user_path(config.path)
    if not path.exists():
        raise UserError(f'{path} does not exist: correct --config.data.path.')
    if config.format == 'prepared' or records.is_one(path):
        return prepared_set.read(path, lambda images: conform(images, config))
    if config.format == 'tfds':
        size = config.image_size
        return tfds_set.read(path, lambda images: conform(images, config), image_size=size)
    readers = {'folder': folder.read, 'csv': csv_table.read}
    if config.format in readers:
        return readers[config.format](path, config)
    return npz.read(path, mapped=mapped)


Load = Callable[
    [pathlib.Path, Sequence[str], Data, Sequence[Excluded]],
    decoding.Loaded,
]


def read(config: Data, table: Table | None = None, *, load: Load = decoding.load) -> Raw:
    """Reads the images of a table, brought to the size and channels that the config asks for.

    Args:
      config: the `data` part of a config.
      table: from `survey`; None: it is made.
      load: what reads image files, see `decoding.load`.

    Raises:
      UserError: images that cannot be read and may not be left out, or of several sizes or channels.
    """
    table = table or survey(config)
    pixels, excluded = table.written.pixels, table.excluded
    kept = table.used(table.protocol(config.split.protocol))
    if len(kept) == 0:
        raise UserError(f'{table.where} has no image that is not left out.')
    stamps = np.zeros((len(kept), 2), np.int64)
    digests = contents = np.full(len(kept), '')
    images: Images
    if isinstance(pixels, Files):
        names = [pixels.names[row] for row in kept]
        loaded = load(pixels.root, names, config, excluded)
        id_of = dict(zip(names, table.ids[kept].tolist(), strict=True))
        excluded = tuple(e._replace(path=id_of.get(e.path, e.path)) for e in loaded.excluded)
        images, kept = loaded.images, kept[loaded.rows]
        digests, contents, stamps = loaded.digests, loaded.contents, loaded.stamps
    elif isinstance(pixels, np.ndarray):
        images = pixels if len(kept) == len(pixels) else pixels[kept]
        digests = contents = np.array([image_files.digest(image) for image in images])
        images = conform(images, config)
    else:
        stored_images = pixels.select(kept)
        images = stored_images
        known = table.written.digests
        digests = digests if known is None else known[kept]
        if stored_images.nbytes <= IN_MEMORY_BYTES:
            images = stored_images[:]
        if known is None and isinstance(images, np.ndarray):
            digests = np.array([image_files.digest(image) for image in images])
    return Raw(
        images=images,
        rows=kept,
        ids=table.ids[kept],
        labels=None if table.labels is None else table.labels[kept],
        class_names=table.class_names,
        groups=None if table.groups is None else table.groups[kept],
        digests=digests,
        contents=contents,
        stamps=stamps,
        excluded=tuple(excluded),
        table=table,
    )


def conform(images: np.ndarray, config: Data) -> np.ndarray:
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
