"""Contrastive learning on two views of each image, then a linear probe: SupCon, CICL, SimCLR, ConMix.

Both views go through the network as one batch; a projection head, which prediction does not need, gives embeddings
that the loss draws together or apart. The classifier has no part in it. The second stage learns it, and nothing else,
on the features as they are, and on their running statistics.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax import losses
from ltjax.engine.stage import AddHeads, Batch, Loss, Recipe, Stage, reset_classifier
from ltjax.errors import UserError
from ltjax.methods.decoupled import Retraining
from ltjax.methods.supervised.stage import supervised_stage
from ltjax.methods.task import Supervised, Task, epochs_of
from ltjax.models.projection import projection_head
from ltjax.settings import Choice, Choices, at_least, choice_of, chosen, positive

Positive = Annotated[float, positive()]
NotNegative = Annotated[float, at_least(0)]

# (unit embeddings [2B, D], the first views before the second; labels [B]; key) -> the loss, [].
Contrast = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

CONTRASTS: Choices[Contrast] = Choices()


@CONTRASTS.add
def supervised_contrastive(
    *, temperature: Positive = 0.1, base_temperature: NotNegative = 0.07
) -> Contrast:
    """Views of images of one class are drawn together (Khosla et al., 2020, eq. 2).

    The loss is multiplied by the temperature over the base temperature; 0: it is not.
    """

    def contrast(embeddings: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
        values = losses.supervised_contrastive(
            embeddings,
            jnp.tile(labels, 2),
            temperature=temperature,
            base_temperature=base_temperature or None,
        )
        return losses.mean(values)

    return contrast


@CONTRASTS.add
def nt_xent(*, temperature: Positive = 0.5) -> Contrast:
    """The views of one image are drawn together, without labels (SimCLR; Chen et al., 2020, eq. 1)."""

    def contrast(embeddings: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
        images = jnp.tile(jnp.arange(len(labels)), 2)
        return losses.mean(losses.nt_xent(embeddings, images, temperature=temperature))

    return contrast


@CONTRASTS.add
def mixed_nt_xent(
    *, temperature: Positive = 0.2, mixtures: Annotated[int, at_least(2)] = 100
) -> Contrast:
    """The views of one mixture are drawn together, without labels (ConMix; Li and Jia, 2025).

    Each image of a batch goes by chance into one of `mixtures`, the same for both its views. A mixture is the mean of
    its images' embeddings, at unit length; those that no image goes into do not count.
    """

    def contrast(embeddings: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
        chosen_mixture = jax.random.randint(key, labels.shape, 0, mixtures)
        members = jax.nn.one_hot(chosen_mixture, mixtures, axis=0, dtype=embeddings.dtype)
        views = embeddings.reshape(2, len(labels), -1)
        # Unit length: the sum is as good as the mean.
        sums = jnp.matmul(members, views, precision=jax.lax.Precision.HIGHEST)
        mixed = losses.normalise_rows(sums.reshape(2 * mixtures, -1))
        some = jnp.tile(members.any(axis=1), 2)
        numbers = jnp.tile(jnp.arange(mixtures), 2)
        values = losses.nt_xent(mixed, numbers, temperature=temperature, where=some)
        return losses.mean(values, some)

    return contrast


@dataclasses.dataclass(frozen=True)
class Train(Supervised):
    """The first stage.

    Attributes:
      second_view: augmentations of the second view of each image; `view` has those of the first.
      loss: of the embeddings.
      embedding_dim: of the projection head, which has one hidden layer as wide as the features.
    """

    second_view: str
    loss: Annotated[Choice, choice_of(CONTRASTS)]
    embedding_dim: Annotated[int, positive()]


@dataclasses.dataclass(frozen=True)
class Config:
    """The values of a contrastive method.

    Attributes:
      train: the first stage.
      retrain: the second, the probe.
    """

    train: Train
    retrain: Retraining


# An ImageClassifier with the `projection` that the recipe adds.
Network = Any


def recipe(config: Config, task: Task) -> Recipe:
    """Returns contrastive learning (`config.train`) and the probe (`config.retrain`).

    No class needs two images: its other view is a positive of every view. An image that is the only one of its class
    in a batch is drawn to its own other view alone.

    Raises:
      UserError: a batch of one image, or parts that do not fit together.
    """
    retrain = config.retrain
    probe = supervised_stage(
        retrain,
        task,
        name='probe',
        trains=retrain.trains,
        batch_norm=retrain.batch_norm,
        prepare=reset_classifier if retrain.reset_classifier else None,
    )
    return Recipe((first_stage(config.train, task), probe), add_projection(config.train))


def add_projection(train: Train) -> AddHeads:
    """Returns the `add_heads` that gives a network the projection head of `first_stage`."""

    def add(model: Network, rngs: nnx.Rngs) -> None:
        width = model.feature_dim
        model.projection = projection_head(width, width, train.embedding_dim, rngs=rngs)

    return add


def first_stage(train: Train, task: Task) -> Stage:
    """Returns epochs of contrastive learning of the encoder, through the projection.

    Raises:
      UserError: a batch of one image.
    """
    if train.batch_size == 1:
        raise UserError(
            'train.batch_size is 1, and an image alone has none to be told from: use 2 or more.'
        )
    contrast = chosen(CONTRASTS, train.loss)()

    def loss_fn(model: Network, extra: Any, batch: Batch, key: jax.Array, step: jax.Array) -> Loss:
        features = model.encode(jnp.concatenate([batch['first'], batch['second']]))
        embeddings = losses.normalise_rows(model.projection(features))
        return Loss(contrast(embeddings, batch['label'], key))

    update = epochs_of(
        train,
        task,
        loss_fn,
        sampler=train.sampler,
        views={'first': task.view(train.view), 'second': task.view(train.second_view)},
        trains='encoder',
    )
    return Stage(train.loss.name, (update,), rounds=train.epochs)
