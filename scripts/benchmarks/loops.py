"""Small networks: steps of a training loop, one and many a call, against steps queued on a batch that lies there."""

from typing import Any

import jax
import numpy as np

from ltjax.data.pipeline import Feed
from ltjax.engine import streams
from ltjax.engine.logbook import Logbook
from ltjax.engine.progress import RoundProgress
from ltjax.engine.rounds import STEPS_PER_CALL
from ltjax.engine.safeguards import Safeguards
from ltjax.engine.step import make_step
from ltjax.engine.step_metrics import StepMetrics

from .kernels import by_kernel, traced
from .measure import median_seconds
from .random_run import RandomRun, calls, dataset

NUM_CLASSES = 10

# A linear classifier of given features: a step is the host's work and little else.
LINEAR, FEATURES = 'linear', 512


class LoopRun:
    """Cross-entropy of the small sets' settings, the images in the device's memory."""

    def __init__(self, model: str, pixels: int, *, batch: int, images: int, steps: int) -> None:
        """Takes a network by name, or LINEAR, the side of an image, and numbers of images and of steps a call."""
        channels = {'small_cnn': 1, LINEAR: FEATURES}.get(model, 3)
        view = 'none' if model == LINEAR else 'upright_weak'
        overrides: dict[str, Any] = {'method.train.batch_size': batch, 'method.train.view': view}
        if model == LINEAR:
            overrides['model.frozen'] = True
        elif model != 'small_cnn':
            overrides['model.name'] = model
        self.run = RandomRun(
            'cross_entropy',
            dataset(model in ('small_cnn', LINEAR)),
            overrides,
            (NUM_CLASSES, images, channels),
        )
        self.stage = self.run.stages['cross_entropy']
        self.update, self.steps = self.stage.updates[0], steps
        labels = self.run.train_labels
        shape = (len(labels), pixels, pixels, channels)
        values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        values = values.astype(np.float32) if model == LINEAR else values
        self.feed = Feed(values, labels, self.run.mesh)
        self.streams = streams.make_streams(
            self.update, labels, num_classes=NUM_CLASSES, seed=self.run.seed, name='benchmark'
        )
        self._step = make_step(self.update, self.run.graphdef, self.run.mesh)
        self._steps = make_step(
            self.update, self.run.graphdef, self.run.mesh, per_call=STEPS_PER_CALL
        )
        self._state, self._key = self.run.enter(self.stage), self.run.key('benchmark')
        self._done = 0
        (self._lying,) = streams.batches(self.update, self.streams, self.feed, 0, 1)

    def _make(self, batch: Any) -> Any:
        step = np.int32(self._done)
        self._done += 1
        self._state, metrics = self._step(self._state, batch, self._key, step)
        return metrics

    def _metrics(self) -> StepMetrics:
        ids, at = np.arange(len(self.feed.labels)), (self.stage.name, self.update.name)
        return StepMetrics(RoundProgress(), *at, self.streams, ids, Safeguards(), _Silent())

    def single(self) -> float:
        """Makes steps one a call: gathers, steps, reads one call late; returns the mean loss."""
        metrics, first = self._metrics(), self._done
        for batch in streams.batches(
            self.update, self.streams, self.feed, first, first + self.steps
        ):
            metrics.add(self._done, self._make(batch))
        return metrics.means('')['loss']

    def many(self) -> float:
        """Makes as many steps by `STEPS_PER_CALL` a call; returns the mean loss."""
        metrics, rows, resident = self._metrics(), STEPS_PER_CALL, self.feed.resident
        for at, count in calls(self.steps):
            step = self._done + at
            data = resident, streams.positions(self.streams, self.run.mesh, step, count, rows)
            numbers = np.int32(step), np.int32(count)
            self._state, found = self._steps(self._state, data, self._key, *numbers)
            metrics.add(step, found, count)
        self._done += self.steps
        return metrics.means('')['loss']

    def alone(self) -> None:
        """Queues as many steps on one batch, and waits once."""
        for _ in range(self.steps):
            metrics = self._make(self._lying)
        jax.block_until_ready((self._state, metrics))


class _Silent(Logbook):
    """Writes nothing; no value here is NaN, which is all that a meter would tell it."""

    def __init__(self) -> None:
        pass


def share(model: str, pixels: int, *, small: bool) -> dict[str, Any]:
    """Steps a second: one a call, many a call, and alone; and the device's own time in the first two, by a trace."""
    batch, images, steps, turns = (8, 64, 3, 1) if small else (128, 4096, 100, 3)
    run = LoopRun(model, pixels, batch=batch, images=images, steps=steps)
    ways = {'single': run.single, 'many': run.many, 'alone': run.alone}
    seconds = median_seconds(ways, turns)
    row = {
        'model': model,
        'pixels': pixels,
        'batch': batch,
        'dtype': run.run.config.model.dtype,
        **{f'{name}_steps_per_second': steps / value for name, value in seconds.items()},
    }
    for name in ('single', 'many'):
        busy = sum(kernel['ms'] for kernel in by_kernel(traced(ways[name]))) / 1e3
        row |= {
            f'{name}_kernels_ms': 1e3 * busy / steps,
            f'{name}_device_share': busy / seconds[name],
        }
    return row
