"""Many image files to one array: those that cannot be read stop it, or are left out, listed and counted."""

import contextlib
import pathlib
from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from ltjax import files
from ltjax.data import parallel
from ltjax.data.prepared import records
from ltjax.data.reading import images as image_files
from ltjax.data.reading.table import Excluded
from ltjax.data.settings import Data
from ltjax.errors import UserError


class Loaded(NamedTuple):
    """Image files that were read."""

    images: np.ndarray | records.StoredImages  # uint8 [N, H, W, C]
    rows: np.ndarray  # int64 [N], their places in the list that was asked for
    digests: np.ndarray  # str [N], see `images.digest`, of the pixels as they are stored
    contents: np.ndarray  # str [N], digests of the files' bytes
    stamps: np.ndarray  # int64 [N, 2], the files' sizes in bytes and times of change in nanoseconds
    excluded: tuple[Excluded, ...]  # what was left out


class Decoded(NamedTuple):
    """An image file that was read."""

    file: pathlib.Path
    image: np.ndarray  # uint8 [H, W, C], of the size and channels that the config asks for
    digest: str  # see `images.digest`, of the pixels as they are stored
    content: str  # digest of the file's bytes
    stamp: tuple[int, int]  # see `stamp`, before it was read


def one(root: pathlib.Path, name: str, config: Data) -> Decoded:
    """Reads one image file; see `load`.

    Raises:
      UserError: it cannot be read.
    """
    file = image_files.inside(root, name, allow_outside=config.allow_outside)
    before = (0, 0)
    with contextlib.suppress(OSError):  # decoding says what is wrong
        before = stamp(file)
    image = image_files.decode(file, config.channels, config.window, config.frame)
    digest, content = image_files.digest(image), image_files.file_digest(file)
    if config.image_size:
        image = image_files.resize(image, config.image_size, config.interpolation)
    return Decoded(file, image, digest, content, before)


def tried(
    root: pathlib.Path, names: Sequence[str], config: Data
) -> Generator[Decoded | Excluded, None, None]:
    """Yields each of the image files, in their order, with all processors; or why it cannot be read."""

    def read(name: str) -> Decoded | Excluded:
        try:
            return one(root, name, config)
        except UserError as error:
            return Excluded(name, str(error))

    yield from parallel.in_order(read, names)


def load(
    root: pathlib.Path, names: Sequence[str], config: Data, excluded: Sequence[Excluded] = ()
) -> Loaded:
    """Reads image files into one array, with all processors.

    Args:
      root: the folder that they lie in.
      names: their paths, relative to it.
      config: `image_size` (pixels a side to resize to; 0 keeps the size, which must then be the same for
        all), `interpolation`, `channels` (0: all must agree), `allow_outside`, `max_pixels` of an
        image, and `on_damaged`: 'stop', or 'exclude' what cannot be read.
      excluded: what is left out or known to be unreadable already, beside `names`.

    Raises:
      UserError: files that cannot be read (all are tried, so that their number is said) and may not be
        left out, or none that can; or files of mixed sizes or channels.
    """
    stops = config.on_damaged == 'stop'
    images, kept = np.empty(0, np.uint8), list[Decoded]()
    rows, damaged = list[int](), list[Excluded]()
    progress = parallel.Progress(f'decoding {root}', len(names))

    with (
        image_files.pixel_limit(config.max_pixels),
        contextlib.closing(tried(root, names, config)) as found,
    ):
        for row, each in enumerate(found):
            progress.advance()
            if isinstance(each, Excluded):
                damaged.append(each)
                continue
            if stops and damaged:
                continue
            if not kept:
                # Memory that is not written to is not taken: of an array for all, no more than what is read.
                images = np.empty((len(names), *each.image.shape), np.uint8)
            elif unlike := unlikeness(each.file, each.image.shape, kept[0].file, images.shape[1:]):
                raise UserError(unlike)
            images[len(kept)] = each.image
            kept.append(each._replace(image=images[:0]))
            rows.append(row)
    return Loaded(
        images[: len(kept)],
        np.array(rows),
        np.array([each.digest for each in kept]),
        np.array([each.content for each in kept]),
        np.array([each.stamp for each in kept]),
        left_out(root, len(names), config, damaged, excluded),
    )


def refuse(
    root: pathlib.Path,
    number: int,
    config: Data,
    damaged: Sequence[Excluded],
    excluded: Sequence[Excluded],
) -> None:
    """Raises UserError if images that cannot be read may not be left out, or nothing is left; see `left_out`."""
    unfit = [each for each in excluded if each.kind != 'unlabelled']
    stops = config.on_damaged == 'stop'
    if refusal := too_damaged(root, [*unfit, *damaged], number + len(unfit), stops):
        raise UserError(refusal)


def left_out(
    root: pathlib.Path,
    number: int,
    config: Data,
    damaged: Sequence[Excluded],
    excluded: Sequence[Excluded],
) -> tuple[Excluded, ...]:
    """Returns all that is left out of a set, and says so.

    Args:
      root: its folder.
      number: of the images that were tried.
      config: the `data` part of a config.
      damaged: those of them that cannot be read.
      excluded: what is left out beside them.

    Raises:
      UserError: they may not be left out, or nothing is left.
    """
    refuse(root, number, config, damaged, excluded)
    everything = (*excluded, *damaged)
    if everything:
        logging.warning(
            '%d of %d images of %s are left out. The first: %s',
            len(everything), number + len(excluded), root, everything[0].reason,
        )  # fmt: skip
    return everything


def stamp(file: pathlib.Path) -> tuple[int, int]:
    """Returns by what a file is known to be unchanged, most likely: its size and its time of change in nanoseconds."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def stamp_of(root: pathlib.Path, name: str) -> tuple[int, int]:
    """Returns the stamp of an image's file, also where the disk has its name in another form of Unicode; or zeros."""
    with contextlib.suppress(OSError, ValueError):
        return stamp(root / name)
    with contextlib.suppress(OSError, UserError):
        return stamp(image_files.inside(root, name, allow_outside=True))
    return 0, 0


def write(path: pathlib.Path, excluded: Sequence[Excluded]) -> None:
    """Writes what was left out as a CSV with the columns path and reason."""
    files.write_csv(path, [Excluded._fields, *excluded])


def too_damaged(root: pathlib.Path, unreadable: Sequence[Excluded], total: int, stops: bool) -> str:
    """Returns why images that cannot be read stop a run; '' if they do not."""
    if not unreadable:
        return ''
    first, count = unreadable[0].reason, len(unreadable)
    if count == total:
        return f'none of the {total} images of {root} can be read. The first: {first}'
    if not stops:
        return ''
    others = f' {count - 1} more of {total} images cannot be read.' if count > 1 else ''
    return (
        f'{first}{others} --config.data.on_damaged=exclude leaves '
        f'{"them" if count > 1 else "it"} out.'
    )


def unlikeness(path: object, shape: tuple[int, ...], first: object, other: tuple[int, ...]) -> str:
    """Returns why an image does not go with the first one; '' if it does."""
    if shape[2] != other[2]:
        return (
            f'{path} has {shape[2]} channels and {first} has {other[2]}: '
            'set --config.data.channels=3 (or 1).'
        )
    if shape != other:
        return (
            f'{path} is {shape[1]}x{shape[0]} and {first} is '
            f'{other[1]}x{other[0]}: set --config.data.image_size=224 (say).'
        )
    return ''
