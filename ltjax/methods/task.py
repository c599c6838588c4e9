"""What a method is told about the data, and the supervised stage that most methods begin with."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ltjax import losses
from ltjax.data import augment
from ltjax.engine import optim
from ltjax.engine.stage import Batch, Loss, LossFn, Run, Sampler, Stage, Update, View
from ltjax.engine.state import TrainState
from ltjax.errors import UserError
from ltjax.models import ImageClassifier

LogitLoss = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Task:
    """What a method may know of the data set.

    Attributes:
      train_counts: training images a class, int64 [K].
      mean: of each channel, of images in 0 to 1.
      std: of each channel.
    """

    train_counts: np.ndarray
    mean: Sequence[float]
    std: Sequence[float]

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.train_counts)

    def view(self, name: str) -> View:
        """Returns the named augmentation list, normalised for this data set."""
        return augment.view(name, mean=self.mean, std=self.std)

    def steps(self, batch_size: int) -> int:
        """Returns the whole batches in one pass over the training images, at least one.

        Raises:
          UserError: a batch without images.
        """
        if batch_size < 1:
            raise UserError(f'batch size {batch_size} holds no image: use 1 or more.')
        return max(1, int(self.train_counts.sum()) // batch_size)


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
    """Epochs with a sampler of images, see `pipeline.SAMPLERS`."""

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
        sampler=sampler,
        views={'view': task.view(config.view)} if views is None else views,
        **others,
    )


def supervised_stage(
    name: str,
    config: Supervised,
    task: Task,
    loss: LogitLoss,
    *,
    trains: str = 'all',
    batch_norm: str = 'batch',
    prepare: Callable[[TrainState, Run], TrainState] | None = None,
) -> Stage:
    """Returns epochs of (logits, labels) -> per-example loss on one view; a round is an epoch.

    Args:
      name: of the stage.
      config: its epochs.
      task: the data set.
      loss: per-example values [B].
      trains: see `Update`.
      batch_norm: see `Update`.
      prepare: see `Stage`.
    """

    def loss_fn(
        model: ImageClassifier, extra: Any, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Loss:
        return Loss(losses.mean(loss(model(batch['view']).logits, batch['label'])))

    update = epochs_of(
        config, task, loss_fn, sampler=config.sampler, trains=trains, batch_norm=batch_norm
    )
    return Stage(name, (update,), rounds=config.epochs, prepare=prepare)
