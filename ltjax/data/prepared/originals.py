"""What a prepared set keeps of the files that its images were made of, beside each shard: digests, sizes and times.

By them a drawn split of the set is that of the files, and a file is known that has changed since.
"""

import pathlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltjax import files
from ltjax.data.prepared import records
from ltjax.errors import UserError

Stamp = tuple[int, int]  # see `reading.decoding.stamp`
NO_STAMP = (0, 0)  # of what is no file of its own


class Original(NamedTuple):
    """An image as it was found."""

    id: str
    digest: str = ''  # of its pixels before they were resized, see `reading.images.digest`
    content: str = ''  # digest of its file's bytes
    stamp: Stamp = NO_STAMP
    error: str = ''  # why it is left out


class Originals(NamedTuple):
    """Those of a set, N images and M that are left out."""

    ids: np.ndarray  # str [N]
    digests: np.ndarray  # str [N]
    contents: np.ndarray  # str [N]
    stamps: np.ndarray  # int64 [N, 2]
    excluded: np.ndarray  # str [M], ids
    reasons: np.ndarray  # str [M]
    excluded_stamps: np.ndarray  # int64 [M, 2]


def write(path: pathlib.Path, found: Sequence[Original]) -> None:
    """Writes those of a shard, in their order."""
    kept = [each for each in found if not each.error]
    lost = [each for each in found if each.error]
    arrays = Originals(
        _texts(each.id for each in kept),
        _texts(each.digest for each in kept),
        _texts(each.content for each in kept),
        _stamps(kept),
        _texts(each.id for each in lost),
        _texts(each.error for each in lost),
        _stamps(lost),
    )
    files.write_npz(path, arrays._asdict())


def read(root: pathlib.Path, shards: Sequence[Mapping[str, Any]]) -> Originals:
    """Reads those of a set.

    Args:
      root: its folder.
      shards: what its manifest says of them.

    Raises:
      UserError: a file is missing or was changed, or the set keeps none.
    """
    found = []
    for shard in shards:
        path = root / shard.get('originals', {}).get('file', 'originals')
        try:
            if records.sha256(path) != shard['originals']['sha256']:
                raise ValueError('a byte of it was changed')
            with path.open('rb') as file, np.load(file, allow_pickle=False) as arrays:
                found.append([arrays[name] for name in Originals._fields])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f'{path} cannot be read ({error}): prepare the set again.') from None
    return Originals(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _texts(values: Any) -> np.ndarray:
    return np.array(list(values), dtype=np.str_)


def _stamps(found: Sequence[Original]) -> np.ndarray:
    return np.array([each.stamp for each in found], np.int64).reshape(-1, 2)
