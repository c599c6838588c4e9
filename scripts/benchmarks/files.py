"""Training from files: what reading gives, what a step takes, and whether memory stays flat.

The images are smooth noise, which compresses as photographs do, in a prepared set that is read like one too large for
memory: decoded from its files in every epoch.
"""

import dataclasses
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import cv2
import jax
import numpy as np
from flax import nnx

from ltjax.data import catalog, pipeline
from ltjax.data import reading as data_sets
from ltjax.data.prepared import writing
from ltjax.engine import streams
from ltjax.engine.step import make_step
from ltjax.models.weights import to_torch

from .measure import median_seconds, memory_mb, on_accelerator, run_through
from .random_run import RandomRun, dataset, network

EPOCHS = 10
NUM_CLASSES = 8


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of the images, and of epochs in batches: one that only reads, and one that trains."""

    pixels: int
    batch: int
    read: int
    train: int


def sizes(small: bool) -> Sizes:
    """Returns sizes for this machine; a CPU trains slowly, so that fewer images do."""
    if small:
        return Sizes(pixels=32, batch=8, read=4, train=2)
    if on_accelerator():
        return Sizes(pixels=224, batch=256, read=32, train=32)
    return Sizes(pixels=224, batch=16, read=64, train=8)


def picture(number: int, pixels: int) -> np.ndarray:
    """Returns uint8 [pixels, pixels, 3]: noise of three scales, the finest the faintest."""
    rng = np.random.default_rng(number)
    image = np.full((pixels, pixels, 3), 128.0)
    for cells, strength in ((4, 60.0), (28, 15.0), (112, 7.0)):
        coarse = rng.normal(0, strength, (cells, cells, 3))
        image += cv2.resize(coarse, (pixels, pixels), interpolation=cv2.INTER_CUBIC)
    return image.clip(0, 255).astype(np.uint8)


def written(folder: pathlib.Path, labels: np.ndarray, pixels: int, encoding: str) -> Any:
    """Writes pictures as a prepared set; returns the part of a config that reads it."""
    items = [
        writing.Item(f'{k:06d}', int(label), functools.partial(picture, k, pixels))
        for k, label in enumerate(labels)
    ]
    plan = writing.Plan(
        'smooth noise',
        tuple(f'class {k}' for k in range(NUM_CLASSES)),
        items,
        image_size=pixels,
        channels=3,
        licence='none',
        origin='random numbers',
        splits={},
        encoding=encoding,
    )
    writing.write(folder, plan, threads=os.cpu_count() or 1, report=lambda line: None)
    config = catalog.get('folder')
    config.path, config.image_size = str(folder), pixels
    return config


class FileRun:
    """Cross-entropy with a ResNet-18 on a prepared set in `folder`, without augmentation."""

    def __init__(
        self, folder: pathlib.Path, encoding: str, wanted: Sizes, model: dict[str, str]
    ) -> None:
        count = wanted.batch * max(wanted.read, wanted.train)
        overrides = {
            **model,
            'method.train.view': 'none',
            'method.train.batch_size': wanted.batch,
        }
        if on_accelerator():
            overrides['model.dtype'] = 'bfloat16'
        run = RandomRun('cross_entropy', dataset(not model), overrides, (NUM_CLASSES, count, 3))
        self.run, self.sizes, self.folder = run, wanted, folder
        config = written(folder, run.train_labels, wanted.pixels, encoding)
        with mock.patch.object(data_sets, 'IN_MEMORY_BYTES', 0):
            images = data_sets.read(config).images
        with mock.patch.object(pipeline, 'RESIDENT_BYTES', 0):
            self.feed = pipeline.Feed(images, run.train_labels, run.mesh)
        self.stage = run.stages['cross_entropy']
        self.update = self.stage.updates[0]
        self.streams = streams.make_streams(
            self.update,
            run.train_labels,
            num_classes=NUM_CLASSES,
            seed=run.seed,
            name='benchmark',
        )
        self._read = 0
        self._step = make_step(self.update, run.graphdef, run.mesh)
        self._state, self._key = run.enter(self.stage), run.key('benchmark')

    @property
    def shard_mb(self) -> float:
        """Size of the encoded images."""
        return sum(file.stat().st_size for file in self.folder.glob('*.array_record')) / 1e6

    def batches(self, count: int) -> Iterator[dict[str, jax.Array]]:
        """Yields the next batches of the stream, as the training loop reads them."""
        start, self._read = self._read, self._read + count
        return streams.batches(self.update, self.streams, self.feed, start, self._read)

    def read_epoch(self) -> None:
        """Reads an epoch and does nothing with it."""
        run_through(self.batches(self.sizes.read))

    def train(self, batches: Iterator[dict[str, jax.Array]]) -> None:
        """Makes a step on every batch."""
        run_through(self._steps(batches))

    def _steps(self, batches: Iterator[dict[str, jax.Array]]) -> Iterator[Any]:
        for number, batch in enumerate(batches):
            self._state, metrics = self._step(self._state, batch, self._key, np.int32(number))
            yield metrics


def reading(encoding: str, *, small: bool, epochs: int = EPOCHS) -> dict[str, Any]:
    """Reading alone, training on a batch on the device, and training from files; memory in ten epochs of each.

    Args:
      encoding: 'jpeg' or 'png'.
      small: tiny sizes.
      epochs: of each; fewer than ten say nothing of memory.
    """
    wanted = sizes(small)
    with tempfile.TemporaryDirectory() as name:
        model = network('resnet18', small)
        files = FileRun(pathlib.Path(name), encoding, wanted, model)
        (lying,) = files.batches(1)
        alone, trained = (
            Memory(files.read_epoch),
            Memory(lambda: files.train(files.batches(wanted.train))),
        )
        # The first call of each is its warm-up.
        seconds = median_seconds({'read': alone}, epochs - 1)
        seconds |= median_seconds(
            {'device': lambda: files.train(iter([lying] * wanted.train)), 'files': trained},
            epochs - 1,
        )
        shard_mb = files.shard_mb
    speeds = {
        'pipeline': wanted.batch * wanted.read / seconds['read'],
        'on_device': wanted.batch * wanted.train / seconds['device'],
        'from_files': wanted.batch * wanted.train / seconds['files'],
    }
    results = {
        'encoding': encoding,
        'pixels': wanted.pixels,
        'batch': wanted.batch,
        'images': wanted.batch * wanted.read,
        'encoded_mb': shard_mb,
        **{f'{name}_images_per_second': speed for name, speed in speeds.items()},
        'pipeline_over_step': speeds['pipeline'] / speeds['on_device'],
        'from_files_over_on_device': speeds['from_files'] / speeds['on_device'],
    }
    if epochs < EPOCHS:
        return results
    return results | {
        'memory_mb_after_epochs_of_reading': alone.after,
        'memory_mb_after_epochs_of_training': trained.after,
        'memory_growth_reading': alone.growth,
        'memory_growth_training': trained.growth,
    }


class Memory:
    """Calls a function and keeps the resident memory after each call."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self.after: list[float] = []

    def __call__(self) -> None:
        self._function()
        self.after.append(memory_mb()[0])

    @property
    def growth(self) -> float:
        """Share by which the least of the last five epochs is above the least of the four after the first.

        What the last step used is sometimes there still and sometimes not: what stays shows in the least.
        """
        return min(self.after[5:]) / min(self.after[1:5]) - 1


def epoch_beside_torch(encoding: str, *, small: bool) -> dict[str, Any]:
    """An epoch from files, ours and that of PyTorch's DataLoader with a worker a core."""
    from . import torch_models, torch_steps

    wanted = sizes(small)
    wanted = dataclasses.replace(wanted, read=wanted.train)
    with tempfile.TemporaryDirectory() as name:
        resnet = network('resnet18', small=False)
        files = FileRun(pathlib.Path(name), encoding, wanted, resnet)
        run = files.run
        model = nnx.merge(run.graphdef, run.new_model(run.key('model')), copy=True)
        weights, functions = to_torch(model, 'torchvision'), {}
        functions['ltjax'] = lambda: files.train(files.batches(wanted.train))
        for side, tuning in torch_steps.tunings(on_accelerator()).items():
            functions[side] = torch_steps.epoch(
                torch_models.load('resnet18', weights, NUM_CLASSES),
                pathlib.Path(name),
                tuning,
                batch_size=wanted.batch,
                mean=run.task.mean,
                std=run.task.std,
            )
        seconds = median_seconds(functions, 1 if small else 5)
    fastest = min(value for side, value in seconds.items() if side != 'ltjax')
    return {
        'encoding': encoding,
        'pixels': wanted.pixels,
        'batch': wanted.batch,
        'images': wanted.batch * wanted.train,
        **{f'{side}_epoch_seconds': value for side, value in seconds.items()},
        'ratio_to_fastest_torch': seconds['ltjax'] / fastest,
    }
