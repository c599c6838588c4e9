"""Prepared sets: images decoded and resized once, encoded in ArrayRecord shards, beside a table and a manifest.

    FOLDER/images-00000.array_record ...   one encoded image a record (PNG, JPEG, raw), in the order of the table
    FOLDER/images-00000.npz ...            of one's own: what is known of the files that they were made of
    FOLDER/records.csv                     id, label (class name) and group of every record, and further columns
    FOLDER/splits/NAME.csv                 id and split of a protocol: train, val or test; or fold: 0, 1, ...
    FOLDER/manifest.json                   classes, counts, sizes, licence, origin, excluded images, sha256 of all files

`ltjax.data.prepared.writing` writes them.
"""

import concurrent.futures
import contextlib
import csv
import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cv2
import numpy as np
from grain.sources import ArrayRecordDataSource

from ltjax.errors import UserError, unknown

FORMAT = 1
FILES = ('manifest.json', 'unfinished.json')
ENCODINGS = ('png', 'jpeg', 'raw')
_AT_ONCE = 1024  # images that are decoded before they are put into their place
COLUMNS = ('id', 'label', 'group')  # of records.csv; any others are further ones


def encode(image: np.ndarray, encoding: str) -> bytes:
    """Returns uint8 [H, W, C] as PNG or JPEG bytes, or as they are."""
    if encoding == 'raw':
        return image.tobytes()
    pixels = image[:, :, ::-1] if image.shape[2] == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, data = cv2.imencode(f'.{encoding}', pixels, options if encoding == 'jpeg' else [])
    return data.tobytes()


def decode(data: bytes, channels: int) -> np.ndarray:
    """Returns the uint8 [H, W, C] that `encode` was given (for JPEG: nearly)."""
    flag = cv2.IMREAD_COLOR_RGB if channels == 3 else cv2.IMREAD_GRAYSCALE
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if image is None:
        raise UserError('a record is no image: prepare the set again.')
    return image if image.ndim == 3 else image[:, :, np.newaxis]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared set, opened; images are decoded when they are asked for."""

    root: pathlib.Path  # its folder
    manifest: Mapping[str, Any]  # what manifest.json says
    ids: np.ndarray  # str [N]
    labels: np.ndarray  # int32 [N]
    groups: np.ndarray  # str [N], '' where unknown
    columns: Mapping[str, np.ndarray]  # further ones by name, str [N], as they are written

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.manifest['class_names'])

    def split(self, name: str) -> np.ndarray:
        """Returns the split or fold of every image by the protocol `name`, str [N]; '' where it is not used.

        Raises:
          UserError: there is no such protocol, or its file was changed.
        """
        entry = self.manifest['splits'].get(name)
        if entry is None:
            raise unknown(f'split of {self.root}', name, self.manifest['splits'])
        rows = _read_csv(self.root / entry['file'], entry['sha256'])
        column = 'fold' if rows and 'fold' in rows[0] else 'split'
        of = {row['id']: row[column] for row in rows}
        return np.array([of.get(id_, '') for id_ in self.ids.tolist()])

    def stored(self, conform: Callable[[np.ndarray], np.ndarray] | None = None) -> 'StoredImages':
        """Returns all images, to be decoded when they are read; `conform` is applied to each batch."""
        rows = np.arange(len(self.ids))
        return StoredImages(self.reader(), rows, self.decode, conform or (lambda images: images))

    def decode(self, data: bytes) -> np.ndarray:
        """Returns the uint8 [H, W, C] of a record."""
        if self.manifest['encoding'] == 'raw':
            return np.frombuffer(data, np.uint8).reshape(self.manifest['shape'])
        return decode(data, self.manifest['channels'])

    def reader(self) -> Callable[[int], bytes]:
        """Returns what reads the encoded image of a row, and says of which set a damaged one is."""
        paths = [str(self.root / shard['file']) for shard in self.manifest['shards']]
        with self._naming_damage():
            source = ArrayRecordDataSource(paths)
            complete = len(source) == len(self.ids)
        if not complete:
            raise UserError(f'{self.root} lacks records: prepare the set again.')

        def encoded(row: int) -> bytes:
            with self._naming_damage():
                return source[row]

        return encoded

    @contextlib.contextmanager
    def _naming_damage(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, OSError, ValueError) as error:  # what ArrayRecord raises
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise UserError(
                f'{self.root} is damaged ({reason}): python -m ltjax.data.audit {self.root} '
                'names the file; prepare the set again.'
            ) from None

    def verify(self) -> None:
        """Compares every file with its sha256.

        Raises:
          UserError: a file is missing or was changed.
        """
        manifest = self.manifest
        beside = [shard['originals'] for shard in manifest['shards'] if 'originals' in shard]
        tables = (manifest['records'], *manifest['splits'].values(), *beside)
        for entry in (*manifest['shards'], *tables):
            if not is_whole(self.root, entry):
                path = self.root / entry['file']
                raise UserError(f'{path} is missing or was changed: prepare the set again.')


class StoredImages:
    """Images on disk that are read like an array uint8 [N, H, W, C], by a slice or an array of rows.

    Reading decodes, in as many threads as there are processors; nothing is kept.
    """

    def __init__(
        self,
        encoded: Callable[[int], bytes],
        rows: np.ndarray,
        decoded: Callable[[bytes], np.ndarray],
        conform: Callable[[np.ndarray], np.ndarray] = lambda images: images,
    ) -> None:
        """Takes what reads an encoded image, the rows that count, what decodes one, and what is done with a batch."""
        self._encoded, self._rows, self._decoded, self._conform = encoded, rows, decoded, conform
        self._pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())

    def __len__(self) -> int:
        return len(self._rows)

    @functools.cached_property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), *self[:1].shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes that all would take in memory."""
        return math.prod(self.shape)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        rows = self._rows[index].tolist()
        if len(rows) <= _AT_ONCE:
            return self._some(rows)
        first = self._some(rows[:1])
        made = np.empty((len(rows), *first.shape[1:]), np.uint8)
        for start in range(0, len(rows), _AT_ONCE):
            made[start : start + _AT_ONCE] = self._some(rows[start : start + _AT_ONCE])
        return made

    def _some(self, rows: list[int]) -> np.ndarray:
        return self._conform(np.stack(list(self._pool.map(self._image, rows))))

    def _image(self, row: int) -> np.ndarray:
        return self._decoded(self._encoded(row))

    def select(self, index: np.ndarray) -> 'StoredImages':
        """Returns the images of an array of rows, without reading them."""
        return StoredImages(self._encoded, self._rows[index], self._decoded, self._conform)


def is_one(root: pathlib.Path) -> bool:
    """Tells whether a folder holds a prepared set, whole or not; a manifest.json of others is none of ours."""
    if (root / 'unfinished.json').exists():
        return True
    try:
        manifest = json.loads((root / 'manifest.json').read_text('utf-8'))
    except (OSError, ValueError):
        return (root / 'records.csv').exists() and (root / 'manifest.json').exists()
    return isinstance(manifest, dict) and 'shards' in manifest


def is_begun(root: pathlib.Path) -> bool:
    """Tells whether a folder holds a prepared set, or nothing but what is written of one with its first shard."""
    begun = ('write.lock', 'unfinished.', 'images-00000.')
    return is_one(root) or all(path.name.startswith(begun) for path in root.iterdir())


def read(root: pathlib.Path) -> Prepared:
    """Opens the prepared set in `root`.

    Raises:
      UserError: there is none, it is unfinished, or its table was changed.
    """
    if (root / 'unfinished.json').exists():
        raise UserError(f'{root} is not finished: run the command that prepares it again.')
    if not (root / 'manifest.json').exists():
        raise UserError(
            f'{root} holds no prepared set: make one with python -m data_prep.NAME, or ltjax prepare.'
        )
    manifest = read_json(root / 'manifest.json')
    if manifest.get('format') != FORMAT:
        raise UserError(
            f'{root} is of format {manifest.get("format")}, not {FORMAT}: prepare it again.'
        )
    rows = _read_csv(root / manifest['records']['file'], manifest['records']['sha256'])
    number = {name: k for k, name in enumerate(manifest['class_names'])}
    return Prepared(
        root,
        manifest,
        ids=np.array([row['id'] for row in rows]),
        labels=np.array([number[row['label']] for row in rows], np.int32),
        groups=np.array([row['group'] for row in rows]),
        columns={
            name: np.array([row[name] for row in rows])
            for name in (rows[0] if rows else ())
            if name not in COLUMNS
        },
    )


def _read_csv(path: pathlib.Path, expected: str) -> list[dict[str, str]]:
    if not path.exists() or sha256(path) != expected:
        raise UserError(f'{path} is missing or was changed: prepare the set again.')
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns the JSON of a file of a prepared set."""
    try:
        return json.loads(path.read_text('utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read ({error}): remove it and prepare again.') from None


def is_whole(root: pathlib.Path, entry: Mapping[str, str]) -> bool:
    """Tells whether a file is as a manifest says."""
    path = root / entry['file']
    return path.exists() and sha256(path) == entry['sha256']


def sha256(path: pathlib.Path) -> str:
    """Returns the sha256 of a file."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
