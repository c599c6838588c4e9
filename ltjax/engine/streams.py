"""The batches of an update: its own stream's and, by name, those of its further ones."""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import grain
import numpy as np

from ltjax.data.pipeline import Feed, index_stream
from ltjax.engine.stage import Update

Streams = Mapping[str, grain.MapDataset]


def make_streams(
    update: Update, labels: np.ndarray, *, num_classes: int, seed: int, name: str
) -> Streams:
    """Returns an update's streams of positions in `labels`: its own as '', the further ones by name.

    Args:
      update: what is read.
      labels: int32 [N] of the training images.
      num_classes: K.
      seed: the run's.
      name: of stage and update; with the seed it decides the order.
    """
    samplers = {'': update.sampler} | {n: s.sampler for n, s in update.streams.items()}
    return {
        stream: index_stream(
            labels,
            sampler=sampler,
            batch_size=update.batch_size,
            seed=zlib.crc32(f'{seed}/{name}{stream and "/"}{stream}'.encode()) & 0x7FFFFFFF,
            num_classes=num_classes,
            steps_per_round=update.steps,
        )
        for stream, sampler in samplers.items()
        if sampler is not None
    }


def batches(
    update: Update, streams: Streams, feed: Feed, start: int, stop: int
) -> Iterator[dict[str, Any]]:
    """Yields the batches of the steps from `start` to before `stop`; a further stream's is an entry of its name."""
    feeds = {
        name: feed.batches(
            stream,
            start,
            stop,
            with_images=bool((update.streams[name] if name else update).views),
        )
        for name, stream in streams.items()
    }
    for _ in range(start, stop):
        batch = {name: next(feed) for name, feed in feeds.items()}
        yield batch.pop('', {}) | batch
