"""What a method is told about the data, and updates of which a round is an epoch."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ltjax.data import augment
from ltjax.data.pipeline import BLOCKS, SAMPLERS
from ltjax.data.reading.table import Column
from ltjax.engine import optim
from ltjax.engine.stage import LossFn, Sampler, Update, View
from ltjax.errors import UserError, unknown
from ltjax.losses import class_probabilities

PROGRESSIVE = 'progressively_balanced'


@dataclasses.dataclass(frozen=True)
class Task:
    """What a method may know of the data set.

    Attributes:
      train_counts: training images a class, int64 [K].
      mean: of each channel, of images in 0 to 1.
      std: of each channel.
      on_features: whether the network is frozen, and its "images" are features: views leave them as they are.
      columns: further columns by name; codes int32 [N] of the training images, so that `codes[batch['index']]` are
        those of a batch.
    """

    train_counts: np.ndarray
    mean: Sequence[float]
    std: Sequence[float]
    columns: Mapping[str, Column] = dataclasses.field(default_factory=dict)
    on_features: bool = False

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.train_counts)

    def view(self, name: str) -> View:
        """Returns the named augmentation list, normalised for this data set."""
        if self.on_features:
            return _as_they_are
        return augment.view(name, mean=self.mean, std=self.std)

    def sampler(self, name: str, epochs: int, *, defer_until: int = 0) -> Sampler:
        """Returns the named sampler or, where it changes from epoch to epoch, its class probabilities [epochs, K].

        Args:
          name: one of `pipeline.SAMPLERS`, or 'progressively_balanced', which is not deferred.
          epochs: of the stage.
          defer_until: the epoch from which it acts; before it images are drawn as they are.

        Raises:
          UserError: there is no such sampler, or it cannot be deferred.
        """
        if name not in (*SAMPLERS, PROGRESSIVE):
            raise unknown('sampler', name, (*SAMPLERS, PROGRESSIVE))
        if name == BLOCKS and defer_until:
            raise UserError(
                f'sampler {BLOCKS!r} cannot be deferred: use class_balanced, or defer_until 0.'
            )
        if name == 'instance_balanced' or not (defer_until or name == PROGRESSIVE):
            return name
        table = []
        for epoch in range(max(epochs, 1)):
            sampler = getattr(class_probabilities, name)
            if name == PROGRESSIVE:
                sampler = functools.partial(sampler, epoch=epoch, epochs=max(epochs, 1))
            elif epoch < defer_until:
                sampler = class_probabilities.instance_balanced
            table.append(sampler(self.train_counts))
        return np.stack(table)

    def steps(self, batch_size: int) -> int:
        """Returns the whole batches in one pass over the training images, at least one.

        Raises:
          UserError: a batch without images.
        """
        if batch_size < 1:
            raise UserError(f'batch size {batch_size} holds no image: use 1 or more.')
        return max(1, int(self.train_counts.sum()) // batch_size)


def _as_they_are(key: jax.Array, features: jax.Array) -> jax.Array:
    return features


@dataclasses.dataclass(frozen=True)
class Epochs:
    """Epochs over the training images.

    Attributes:
      epochs: how many.
      batch_size: images in a step.
      view: a list of augmentations, see `augment.VIEWS`.
      optimizer: of the network.
    """

    epochs: int
    batch_size: int
    view: str
    optimizer: optim.Optimizer


@dataclasses.dataclass(frozen=True)
class Supervised(Epochs):
    """Epochs with a sampler of images, see `Task.sampler`."""

    sampler: str


def epochs_of(
    config: Epochs,
    task: Task,
    loss_fn: LossFn,
    *,
    sampler: Sampler,
    name: str = 'train',
    views: Mapping[str, View] | None = None,
    **others: Any,
) -> Update:
    """Returns the update of which a round is an epoch.

    Args:
      config: its length, batches and optimiser.
      task: the data set.
      loss_fn: see `Update`, as the rest.
      sampler: of the images.
      name: of the update.
      views: None: the one of `config`, by the name 'view'.
      **others: further values of the update.
    """
    steps = task.steps(config.batch_size)
    return Update(
        name=name,
        loss_fn=loss_fn,
        optimizer=optim.make(config.optimizer, config.epochs, steps),
        steps=steps,
        batch_size=config.batch_size,
        sampler=task.sampler(sampler, config.epochs) if isinstance(sampler, str) else sampler,
        views={'view': task.view(config.view)} if views is None else views,
        **others,
    )
