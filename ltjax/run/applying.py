"""Applies a model to images part by part: memory stays flat, and what was interrupted goes on after its last part."""

import dataclasses
import functools
import hashlib
import json
import pathlib
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ltjax import files
from ltjax.data import parallel
from ltjax.data.reading.table import Excluded
from ltjax.evaluation.probabilities import softmax
from ltjax.run.predicting import Part, Source

Forward = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of N images.

    Attributes:
      ids: str [N], paths relative to the folder, or those of the files.
      labels: int32 [N], in the numbering of the model, -1 where there is none.
      logits: float32 [N, K].
      features: float32 [N, C], from which the classifier makes them.
      class_names: the K classes.
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    features: np.ndarray
    class_names: tuple[str, ...]

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """Float64 [N, K]; UserError if a logit is not finite."""
        return softmax(self.logits)


class Applied(NamedTuple):
    """What a model says of the N images of a source that can be read.

    Attributes:
      rows: int64 [N], of the table.
      logits: float32 [N, K].
      features: float32 [N, C]; [N, 0] if they were not asked for.
      digests: str [N], see `reading.images.digest`.
      excluded: what was left out.
    """

    rows: np.ndarray
    logits: np.ndarray
    features: np.ndarray
    digests: np.ndarray
    excluded: tuple[Excluded, ...]


class Kept:
    """The parts that an interrupted prediction has left in a folder.

    Args:
      folder: is made with the first part; None: nothing is kept.
      key: of the model, the images and what is asked: parts of another are not taken.
      source: the images; a part is not taken if one of its files has changed since.
    """

    def __init__(self, folder: pathlib.Path | None, key: str, source: Source) -> None:
        self._folder, self._key, self._source = folder, key, source
        self._number = 0

    def begun(self) -> list[dict[str, np.ndarray]]:
        """Returns the parts that are there, from the first one on."""
        found = list[dict[str, np.ndarray]]()
        while self._folder is not None:
            start = int(found[-1]['stop']) if found else 0
            try:
                path = self._path()
                with path.open('rb') as file, np.load(file, allow_pickle=False) as arrays:
                    part = dict(arrays)
                if str(part['key']) != self._key_of(start, int(part['stop'])):
                    break
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
                break
            found.append(part)
            self._number += 1
        return found

    def add(self, start: int, part: dict[str, np.ndarray]) -> None:
        """Writes the next part, whole or not at all."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        key = self._key_of(start, int(part['stop']))
        files.write_npz(self._path(), part | {'key': np.array(key)})
        self._number += 1

    def _path(self) -> pathlib.Path:
        assert self._folder is not None
        return self._folder / f'{self._number:06d}.npz'

    def _key_of(self, start: int, stop: int) -> str:
        stamps = self._source.stamps(start, stop)
        return hashlib.sha256(json.dumps([self._key, start, stop, stamps]).encode()).hexdigest()


def run(source: Source, forward: Forward, *, size: int, kept: Kept, features: bool) -> Applied:
    """Reads the images of a source and applies a model to them.

    Args:
      source: from `predicting.source`.
      forward: uint8 [n, H, W, C] -> features and logits, in batches.
      size: images of a part, whole batches: so all batches are those that there are without parts.
      kept: takes each part, and has those of before.
      features: whether to keep them.

    Raises:
      UserError: images cannot be read, or are of a shape that the model does not know.
    """
    parts = kept.begun()
    progress = parallel.Progress(f'predicting {source.table.where}', len(source.rows))
    done = int(parts[-1]['stop']) if parts else 0
    if done:
        parallel.to_log(f'{done:,} of {len(source.rows):,} images were done before')
        progress.advance(done, ready=True)
    lost = [Excluded(*each) for part in parts for each in part['damaged'].tolist()]
    start = done
    for each in source.parts(size, done, lost, progress):
        lost += each.damaged
        if not len(each.rows):
            continue
        parts.append(_applied(each, forward, features))
        if each.stop < len(source.rows):  # the last one is written with the others
            kept.add(start, parts[-1])
        start = each.stop
    excluded = source.left_out(lost)
    joined = {
        name: np.concatenate([part[name] for part in parts])
        for name in ('rows', 'logits', 'features', 'digests')
    }
    return Applied(**joined, excluded=excluded)


def _applied(part: Part, forward: Forward, features: bool) -> dict[str, np.ndarray]:
    found, logits = forward(part.images)
    return {
        'rows': part.rows,
        'logits': logits,
        'features': found if features else found[:, :0],
        'digests': part.digests,
        'damaged': np.array([(each.path, each.reason) for each in part.damaged], np.str_).reshape(
            -1, 2
        ),
        'stop': np.array(part.stop),
    }
