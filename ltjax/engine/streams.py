"""The batches of an update: its own stream's and, by name, those of its further ones."""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import grain
import jax
import numpy as np

from ltjax import sharding
from ltjax.data import pipeline
from ltjax.data.pipeline import Feed, drawn_stream, index_stream
from ltjax.engine.stage import Sampler, Update

Streams = Mapping[str, grain.MapDataset]

# The sampler that draws by `extra['draw']`, see `stage.Update`.
STATE = 'state'


def samplers(update: Update) -> dict[str, Sampler | None]:
    """Returns the samplers of an update: its own as '', those of its further streams by name."""
    return {'': update.sampler} | {n: s.sampler for n, s in update.streams.items()}


def reads_state(update: Update) -> bool:
    """Tells whether a stream of an update is drawn by the state."""
    return any(isinstance(each, str) and each == STATE for each in samplers(update).values())


def make_streams(
    update: Update,
    labels: np.ndarray,
    *,
    num_classes: int,
    seed: int,
    name: str,
    draw: np.ndarray | None = None,
) -> Streams:
    """Returns an update's streams of positions in `labels`: its own as '', the further ones by name.

    Args:
      update: what is read.
      labels: int32 [N] of the training images.
      num_classes: K.
      seed: the run's.
      name: of stage and update; with the seed it decides the order.
      draw: [N], what the state says of the images; None: streams that are drawn by it are left out.
    """
    streams = {}
    for stream, sampler in samplers(update).items():
        own = zlib.crc32(f'{seed}/{name}{stream and "/"}{stream}'.encode()) & 0x7FFFFFFF
        if isinstance(sampler, str) and sampler == STATE:
            if draw is not None:
                streams[stream] = drawn_stream(draw, batch_size=update.batch_size, seed=own)
        elif sampler is not None:
            streams[stream] = index_stream(
                labels,
                sampler=sampler,
                batch_size=update.batch_size,
                seed=own,
                num_classes=num_classes,
                steps_per_round=update.steps,
            )
    return streams


def batches(
    update: Update, streams: Streams, feed: Feed, start: int, stop: int
) -> Iterator[dict[str, Any]]:
    """Yields the batches of the steps from `start` to before `stop`; a further stream's is an entry of its name."""
    feeds = {
        name: feed.batches(stream, start, stop, with_images=_sees(update, name))
        for name, stream in streams.items()
    }
    for _ in range(start, stop):
        batch = {name: next(feed) for name, feed in feeds.items()}
        yield batch.pop('', {}) | batch


def positions(
    streams: Streams, mesh: jax.sharding.Mesh, start: int, count: int, rows: int
) -> dict[str, jax.Array]:
    """Returns the positions of the steps from `start` on, by the stream's name: int32 [rows, B], on all devices.

    Args:
      streams: of an update.
      mesh: the devices.
      start: first step.
      count: of the steps; rows after them repeat the last one.
      rows: at least `count`.
    """
    made = {}
    for name, stream in streams.items():
        steps = [stream[step] for step in range(start, start + count)]
        made[name] = np.stack(steps + steps[-1:] * (rows - count))
    placed: dict[str, jax.Array] = sharding.replicate(made, mesh)
    return placed


def gather(update: Update, resident: Any, index: Mapping[str, jax.Array]) -> dict[str, Any]:
    """Returns the batch of one step, as `batches` does, from what lies on the devices; inside a jitted function.

    Args:
      update: that reads it.
      resident: `Feed.resident`.
      index: int32 [B] a stream, by its name.
    """
    batch = {
        name: pipeline.gather(resident, rows, with_images=_sees(update, name))
        for name, rows in index.items()
    }
    return batch.pop('', {}) | batch


def sees_images(update: Update) -> bool:
    """Tells whether an update fetches images, and not labels alone, or nothing."""
    return any(_sees(update, name) for name in samplers(update))


def _sees(update: Update, name: str) -> bool:
    return bool((update.streams[name] if name else update).views)
