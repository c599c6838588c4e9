"""Writes a shard of a prepared set: its records, and what is known of the files that they were made of."""

import contextlib
import dataclasses
import errno
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from array_record.python.array_record_module import ArrayRecordWriter

from ltjax.data import parallel
from ltjax.data.prepared import originals, records
from ltjax.data.prepared.originals import Original
from ltjax.data.reading import decoding
from ltjax.errors import UserError


@dataclasses.dataclass
class State:
    """How far a set has come, as unfinished.json has it."""

    shards: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    excluded: dict[str, str] = dataclasses.field(default_factory=dict)
    shape: tuple[int, ...] = ()  # of the first image
    first: str = ''  # and its file


class Encoded(NamedTuple):
    """An image that is ready to be written; one that is left out has nothing but `original`."""

    original: Original
    data: bytes = b''
    shape: tuple[int, ...] = ()
    file: str = ''  # for messages


class Settings(NamedTuple):
    """How shards are written."""

    encoding: str  # see `records.ENCODINGS`
    stops: bool  # at an image that cannot be read
    originals: bool  # whether to keep what `originals` says


@contextlib.contextmanager
def _disk_errors(path: pathlib.Path) -> Iterator[None]:
    """Makes of what ArrayRecord raises what Python does."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(errno.EIO, ' '.join(str(error).split()), str(path)) from None


def write(
    path: pathlib.Path,
    images: Iterable[Encoded],
    state: State,
    progress: parallel.Progress,
    settings: Settings,
) -> dict[str, Any]:
    """Writes one shard, whole or not at all.

    Args:
      path: of its records.
      images: that belong into it.
      state: gets what is left out, and the shape of the first image of the set.
      progress: is told of each image.
      settings: see there.

    Returns:
      What the manifest says of it.

    Raises:
      UserError: an image cannot be read and may not be left out, or has another shape than the first one.
      OSError: the disk is full or fails.
    """
    partial = path.with_suffix('.partial')
    # Pixels as they are should be read at once, and encoded ones gain nothing: public sets stay as they have been.
    plain = settings.originals or settings.encoding == 'raw'
    options = 'group_size:1,uncompressed' if plain else 'group_size:1'
    writer = ArrayRecordWriter(str(partial), options)
    found, written = list[Original](), 0
    try:
        for image in images:
            progress.advance()
            found.append(image.original)
            if error := image.original.error:
                if settings.stops:
                    raise UserError(f'{error} (or exclude it: --on-damaged=exclude)')
                state.excluded[image.original.id] = error
                continue
            if not state.shape:
                state.shape, state.first = image.shape, image.file
            if unlike := decoding.unlikeness(image.file, image.shape, state.first, state.shape):
                raise UserError(unlike)
            with _disk_errors(partial):
                writer.write(image.data)
            written += 1
    finally:
        with _disk_errors(partial):
            writer.close()
    partial.replace(path)
    shard = {'file': path.name, 'records': written, 'sha256': records.sha256(path)}
    if not settings.originals:
        return shard
    beside = path.with_suffix('.npz')
    originals.write(beside, found)
    return shard | {'originals': {'file': beside.name, 'sha256': records.sha256(beside)}}
