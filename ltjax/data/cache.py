"""Keeps the decoded images of a folder or CSV between runs, as a prepared set of raw pixels.

    FOLDER/KEY/            of a path and the settings that make its pixels
    FOLDER/KEY/VERSION/    of the images' names, sizes and times of change; never changed once it is whole
    FOLDER/KEY/VERSION/whole    the sha256 of its manifest.json, written last

What a version holds of images that have not changed, the next one takes from it.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import PIL
from grain.sources import ArrayRecordDataSource

from ltjax import files
from ltjax.data.parallel import to_log
from ltjax.data.prepared import originals, records, writing
from ltjax.data.prepared.originals import NO_STAMP, Original, Originals, Stamp
from ltjax.data.prepared.writing import Item, Plan
from ltjax.data.reading import decoding
from ltjax.data.reading import images as image_files
from ltjax.data.reading.decoding import Decoded, Loaded
from ltjax.data.reading.table import Excluded
from ltjax.data.settings import Data
from ltjax.errors import UserError

# Sets of at most as many images are decoded in no time.
FEWEST = 2000

# Up to this size images are read into memory, as they go onto the device (`pipeline.RESIDENT_BYTES`); larger sets are
# read batch by batch.
IN_MEMORY_BYTES = 1 << 30

_SPARE = 1 << 28  # bytes that are left free on the disk
_FORMAT = 1  # goes up where the same file would become other pixels

Source = Callable[[], Decoded]
_Version = tuple[records.StoredImages, Originals]


def folder(config: Data) -> pathlib.Path | None:
    """Returns where images are kept, None if they are not."""
    if config.cache in ('', 'off'):
        return None
    if config.cache == 'auto':
        return files.user_path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'ltjax' / 'data'
    return files.user_path(config.cache)


def load(
    root: pathlib.Path, names: Sequence[str], config: Data, excluded: Sequence[Excluded] = ()
) -> Loaded:
    """Returns what `decoding.load` does, from the cache if it is there, and else leaves it there.

    Images of more than `IN_MEMORY_BYTES` stay on disk. Where nothing can be kept, a line says why.

    Raises:
      UserError: as `decoding.load`; or the cache lies in a folder of images, where it would be read as a class.
    """
    place = folder(config)
    if place is None or len(names) <= FEWEST:
        return decoding.load(root, names, config, excluded)
    if config.format == 'folder' and place.resolve().is_relative_to(root.resolve()):
        raise UserError(f'{place} lies in the data, {root}: give a --config.data.cache elsewhere.')
    home = place / _key(config)

    def waiting() -> None:
        to_log(f'another run decodes the same images into {home}: waiting for it')

    try:
        home.mkdir(parents=True, exist_ok=True)
        with files.locked(home / 'lock', waiting):
            found = _kept(home, root, names, config)
    except OSError as error:
        to_log(
            f'nothing is kept in {home} ({error.strerror or error}), and images are decoded in every run: '
            '--config.data.cache=FOLDER keeps them elsewhere.'
        )
        found = None
    except UserError:  # what is wrong with the images, `decoding` says in its order
        found = None
    if found is None:
        return decoding.load(root, names, config, excluded)
    stored, known = found
    damaged = [
        Excluded(*each)
        for each in zip(known.excluded.tolist(), known.reasons.tolist(), strict=True)
    ]
    left_out = decoding.left_out(root, len(names), config, damaged, excluded)
    row_of = {name: row for row, name in enumerate(names)}
    return Loaded(
        stored if stored.nbytes > IN_MEMORY_BYTES else stored[:],
        np.array([row_of[name] for name in known.ids.tolist()]),
        known.digests,
        known.contents,
        known.stamps,
        left_out,
    )


def _key(config: Data) -> str:
    """Returns what tells apart what pixels are made of, beside the files themselves."""
    settings: list[Any] = [config.image_size, config.channels, config.interpolation]
    settings += [config.max_pixels, config.allow_outside, config.window, config.frame]
    versions = [_FORMAT, PIL.__version__, cv2.__version__]
    path = str(files.user_path(config.path).resolve())
    return _sha256([path, config.images, config.suffix, *settings, *versions])[:16]


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _kept(home: pathlib.Path, root: pathlib.Path, names: Sequence[str], config: Data) -> _Version:
    """Returns the version of the files as they are now, made if it is not there.

    Raises:
      UserError: images of mixed sizes or channels.
      OSError: the disk is full or fails.
    """
    stamps = [decoding.stamp_of(root, name) for name in names]
    version = home / _sha256([list(names), stamps])[:16]
    if (found := _opened(version, root, config)) is not None:
        return found
    sources = _sources(home, root, dict(zip(names, stamps, strict=True)), config)
    _check_space(home, root, names, config)
    items = [
        Item(name, 0, sources.get(name) or _decoder(root, name, config), stamp=stamp)
        for name, stamp in zip(names, stamps, strict=True)
    ]
    plan = Plan(
        name=f'decoding {root}',
        class_names=('any',),
        items=items,
        image_size=config.image_size,
        channels=config.channels,
        licence='',
        origin=str(root),
        splits={},
        encoding='raw',
        on_damaged='exclude',
        originals=True,
    )
    _drop_if_damaged(version)
    again = len(sources)
    to_log(
        f'decoded images are kept in {version} for the next run (--config.data.cache=off: nowhere)'
        + (f'; {again:,} of {len(names):,} are there already' if again else '')
    )
    with image_files.pixel_limit(config.max_pixels):
        shard = writing.IMAGES_PER_SHARD
        writing.write(version, plan, images_per_shard=shard, report=to_log)
    files.write_text(version / 'whole', records.sha256(version / 'manifest.json'))
    found = _opened(version, root, config)
    if found is None:
        raise OSError('what was written there cannot be read')
    size = sum(path.stat().st_size for path in version.rglob('*') if path.is_file())
    to_log(f'{version}: {len(found[1].ids):,} images, {size / 1e9:.2g} GB')
    for other in _versions(home):
        if other != version:
            shutil.rmtree(other, ignore_errors=True)
    return found


def _versions(home: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in home.iterdir() if path.is_dir())


def _opened(version: pathlib.Path, root: pathlib.Path, config: Data) -> _Version | None:
    """Returns a version that is whole, None if there is none."""
    try:
        if (version / 'whole').read_text('utf-8') != records.sha256(version / 'manifest.json'):
            return None
        made = records.read(version)
        known = originals.read(version, made.manifest['shards'])
        return _images(made, known, root, config), known
    except (OSError, ValueError, UserError):
        return None


def _drop_if_damaged(version: pathlib.Path) -> None:
    """Removes a version that was begun and says nothing of how far it came; or, if it was whole, lets it be mended."""
    (version / 'whole').unlink(missing_ok=True)
    for name in records.FILES:
        try:
            if (version / name).exists():
                records.read_json(version / name)['shards']
        except (UserError, KeyError, TypeError):
            shutil.rmtree(version)
            return


def _check_space(
    home: pathlib.Path, root: pathlib.Path, names: Sequence[str], config: Data
) -> None:
    """Raises OSError if the disk has no place for all."""
    shape = (config.image_size, config.image_size, config.channels or 3)
    if not config.image_size:
        with image_files.pixel_limit(config.max_pixels), contextlib.suppress(UserError):
            first = image_files.inside(root, names[0], allow_outside=config.allow_outside)
            shape = image_files.decode(first, config.channels, config.window, config.frame).shape
    begun = sum(path.stat().st_size for path in home.rglob('*.array_record'))
    needed, free = len(names) * int(np.prod(shape)) + _SPARE, shutil.disk_usage(home).free
    if needed - begun > free:
        raise OSError(f'they take {needed / 1e9:.2g} GB, and {free / 1e9:.2g} GB are free')


def _decoder(root: pathlib.Path, name: str, config: Data) -> Source:
    return lambda: decoding.one(root, name, config)


def _sources(
    home: pathlib.Path, root: pathlib.Path, stamps: Mapping[str, Stamp], config: Data
) -> dict[str, Source]:
    """Returns by name how to read what other versions hold of images that have not changed."""
    found: dict[str, Source] = {}
    for version in _versions(home):
        for name in records.FILES:
            if not (version / name).exists():
                continue
            with contextlib.suppress(UserError, KeyError, TypeError, RuntimeError, OSError):
                begun = records.read_json(version / name)
                shards, shape = begun['shards'], begun['shape']
                known = originals.read(version, shards) if shards else None
                if known is None:
                    continue
                source = ArrayRecordDataSource([str(version / each['file']) for each in shards])
                for row, each in enumerate(_each(known)):
                    if stamps.get(each.id) == each.stamp != NO_STAMP:
                        found[each.id] = _copier(source, row, shape, each, root, config)
    return found


def _each(known: Originals) -> Iterator[Original]:
    stamps = map(tuple, known.stamps.tolist())
    for row in zip(
        known.ids.tolist(), known.digests.tolist(), known.contents.tolist(), stamps, strict=True
    ):
        yield Original(*row)


def _copier(
    source: Any,
    row: int,
    shape: Sequence[int],
    known: Original,
    root: pathlib.Path,
    config: Data,
) -> Source:
    def copied() -> Decoded:
        try:
            image = np.frombuffer(source[row], np.uint8).reshape(shape)
        except (RuntimeError, OSError, ValueError):  # it is damaged
            return decoding.one(root, known.id, config)
        return Decoded(root / known.id, image, known.digest, known.content, known.stamp)

    return copied


def _images(
    made: records.Prepared, known: Originals, root: pathlib.Path, config: Data
) -> records.StoredImages:
    """Returns the images, of which those that cannot be read are decoded anew."""
    reader, one_by_one, lost = made.reader(), threading.Lock(), list[str]()

    def encoded(row: int) -> bytes:
        try:
            return reader(row)
        except UserError:
            lost.append(str(known.ids[row]))
        with one_by_one, image_files.pixel_limit(config.max_pixels):
            if len(lost) == 1:
                to_log(f'{made.root} is damaged: what cannot be read is decoded anew')
                with contextlib.suppress(OSError):
                    (made.root / 'whole').unlink(missing_ok=True)  # the next run mends it
            again = decoding.one(root, str(known.ids[row]), config)
        if again.digest != known.digests[row]:
            raise UserError(f'{again.file} has changed since this run began: start it again.')
        return again.image.tobytes()

    # All files are opened now: a later run may remove them, when images have changed.
    starts = np.cumsum([0, *(shard['records'] for shard in made.manifest['shards'])])[:-1]
    for start in starts[starts < len(known.ids)].tolist():
        encoded(start)
    return records.StoredImages(encoded, np.arange(len(known.ids)), made.decode)
