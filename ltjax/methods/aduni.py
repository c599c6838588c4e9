"""AdUni (Cong et al., 2022): feature and classifier learning in one contrastive loss, in one stage from end to end.

Each image has two views, which go through the network as one batch; a projection head gives embeddings, the classifier
logits. In the loss, AduC, the rows of an anchor's class and its class itself are drawn to it, all in one softmax. The
weight alpha of the rows falls while training: from features to classifier. No memory beyond the batch is needed.
PaCo (Cui et al., 2021), from which it descends, is here for comparison: keys of a momentum encoder and a queue.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltjax import losses
from ltjax.data import pipeline
from ltjax.engine.stage import Batch, Loss, LossFn, Recipe, Run, Stage
from ltjax.engine.state import TrainState, with_parameters
from ltjax.errors import UserError
from ltjax.losses import contrastive, parametric, queues, schedules
from ltjax.methods.task import Supervised, Task, epochs_of
from ltjax.models.projection import projection_head
from ltjax.settings import at_least, from_to, one_of, positive

SAMPLERS = (*pipeline.SAMPLERS, 'progressively_balanced')

Positive = Annotated[float, positive()]
NotNegative = Annotated[float, at_least(0)]
Share = Annotated[float, from_to(0, 1)]


@dataclasses.dataclass(frozen=True)
class Alpha:
    """Weight of the rows of a class: from `max` to `min` over `decay_epochs`, or `fixed`."""

    schedule: Literal['compounded', 'half_cosine', 'printed', 'fixed']
    max: NotNegative
    min: NotNegative
    decay_epochs: Annotated[int, positive()]
    fixed: NotNegative


@dataclasses.dataclass(frozen=True)
class Train(Supervised):
    """The stage, whose images have two views; `sampler` may be progressively balanced."""

    sampler: Annotated[str, one_of(SAMPLERS)]
    second_view: str


@dataclasses.dataclass(frozen=True)
class Config:
    """AdUni's and PaCo's values.

    Attributes:
      train: the stage.
      variant: 'paco' has keys of a momentum encoder, and a queue.
      unified: False: eq. 1 and 2, each with a softmax of its own ("w/o AduC").
      alpha: the weight of the rows.
      prior: added to the logits while training: of the training images, or of those that are sampled.
      temperature: tau, of the embeddings.
      class_temperature: of the logits.
      base_temperature: the loss is multiplied by tau over it; 0: it is not.
      positives: their mean or, as printed, their sum.
      embedding_dim: of the projection head.
      dropout: before the classifier.
      queue, momentum: of PaCo.
    """

    train: Train
    variant: Literal['aduni', 'paco']
    unified: bool
    alpha: Alpha
    prior: Literal['training', 'sampled', 'none']
    temperature: Positive
    class_temperature: Positive
    base_temperature: NotNegative
    positives: Literal['mean', 'sum']
    embedding_dim: Annotated[int, positive()]
    dropout: Share
    queue: int
    momentum: Share


# An ImageClassifier with the `projection` and the `dropout` that the recipe adds.
Network = Any


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the one stage of AdUni or PaCo and its projection head.

    Raises:
      UserError: values that do not fit together.
    """
    if config.variant == 'paco':
        if not config.unified:
            raise UserError('unified=False is an ablation of AdUni: use variant=aduni with it.')
        if config.queue < config.train.batch_size:
            raise UserError(
                f'queue {config.queue} does not hold a batch: use {config.train.batch_size} or more.'
            )
    train = config.train

    def add_heads(model: Network, rngs: nnx.Rngs) -> None:
        width = model.feature_dim
        model.projection = projection_head(width, width, config.embedding_dim, rngs=rngs)
        model.dropout = nnx.Dropout(config.dropout)

    def add_memory(state: TrainState, run: Run) -> TrainState:
        extra = {
            'momentum': jax.tree.map(jnp.copy, nnx.filter_state(state.model, nnx.Param)),
            'queue': queues.empty_queue(config.queue, config.embedding_dim),
        }
        return state._replace(extra=extra)

    def move_momentum_encoder(extra: Any, model: nnx.State[Any, Any], step: jax.Array) -> Any:
        parameters = nnx.filter_state(model, nnx.Param)
        return extra | {'momentum': losses.ema(extra['momentum'], parameters, config.momentum)}

    def plots(state: TrainState) -> Sequence[dict[str, Any]]:
        epochs = np.arange(train.epochs)
        values = np.broadcast_to(np.asarray(_alpha(config.alpha)(epochs)), epochs.shape)
        line = {'alpha': [epochs.tolist(), values.tolist()]}
        title = 'weight of rows of the same class'
        return ({'title': title, 'lines': line, 'x_label': 'epoch', 'y_label': 'alpha'},)

    paco = config.variant == 'paco'
    update = epochs_of(
        train,
        task,
        (_paco if paco else _aduni)(config, task),
        sampler=train.sampler,
        views={'first': task.view(train.view), 'second': task.view(train.second_view)},
        after_step=move_momentum_encoder if paco else None,
    )
    prepare = add_memory if paco else None
    stage = Stage(config.variant, (update,), rounds=train.epochs, prepare=prepare)
    return Recipe((stage,), add_heads, plots)


def _aduni(config: Config, task: Task) -> LossFn:
    """Returns the loss of both views of a batch: AduC, or its two terms apart, eq. 1 and 2."""
    alpha, log_prior = _by_step(config, task)

    def loss_fn(model: Network, extra: Any, batch: Batch, key: jax.Array, step: jax.Array) -> Loss:
        logits, embeddings = _heads(model, jnp.concatenate([batch['first'], batch['second']]))
        labels = jnp.tile(batch['label'], 2)
        weight, prior = alpha(step), log_prior(step)
        if config.unified:
            values = parametric.adaptive_unified_contrastive(
                logits,
                embeddings,
                labels,
                log_prior=prior,
                alpha=weight,
                class_temperature=config.class_temperature,
                temperature=config.temperature,
                base_temperature=config.base_temperature or None,
                positives=config.positives,
            )
        else:
            values = weight * contrastive.supervised_contrastive(
                embeddings,
                labels,
                temperature=config.temperature,
                base_temperature=config.base_temperature or None,
                positives=config.positives,
            )
            values = values + contrastive.classifier_contrastive(
                logits + prior[None, :],
                labels,
                temperature=config.class_temperature,
                positives=config.positives,
            )
        return Loss(losses.mean(values), _logged(logits, labels, weight))

    return loss_fn


def _paco(config: Config, task: Task) -> LossFn:
    """Returns PaCo's loss: the first view against the momentum encoder's keys of the second, and the queue."""
    alpha, log_prior = _by_step(config, task)

    def loss_fn(model: Network, extra: Any, batch: Batch, key: jax.Array, step: jax.Array) -> Loss:
        labels, queue = batch['label'], extra['queue']
        momentum: Any = with_parameters(model, extra['momentum'])
        keys = jax.lax.stop_gradient(_embed(momentum, momentum.encode(batch['second'])))
        logits, embeddings = _heads(model, batch['first'])
        weight = alpha(step)
        values = parametric.parametric_contrastive(
            logits,
            embeddings,
            labels,
            log_prior=log_prior(step),
            keys=jnp.concatenate([keys, queue.features]),
            key_labels=jnp.concatenate([labels, queue.labels]),
            key_where=jnp.concatenate([jnp.ones_like(labels, bool), queue.filled]),
            alpha=weight,
            temperature=config.temperature,
            class_temperature=config.class_temperature,
            positives=config.positives,
        )
        filled = queues.push(queue, keys, labels)
        logged = _logged(logits, labels, weight)
        return Loss(losses.mean(values), logged, extra | {'queue': filled})

    return loss_fn


def _heads(model: Network, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns logits [n, K] and embeddings of unit length [n, D]; dropout is before the classifier alone."""
    features = model.encode(images)
    return model.classify(model.dropout(features)), _embed(model, features)


def _embed(model: Network, features: jax.Array) -> jax.Array:
    return losses.normalise_rows(model.projection(features))


def _logged(logits: jax.Array, labels: jax.Array, alpha: jax.Array) -> dict[str, jax.Array]:
    cross_entropy = losses.mean(losses.softmax_cross_entropy(logits, labels))
    return {'cross_entropy': cross_entropy, 'alpha': alpha}


# What changes from epoch to epoch.


def _by_step(config: Config, task: Task) -> tuple[Any, Any]:
    """Returns step -> alpha and step -> log prior [K], both those of the step's epoch."""
    steps, schedule = task.steps(config.train.batch_size), _alpha(config.alpha)
    if config.prior == 'none':
        table = np.zeros((1, task.num_classes))
    else:
        name = config.train.sampler if config.prior == 'sampled' else 'instance_balanced'
        sampler = task.sampler(name, config.train.epochs)
        if isinstance(sampler, str):
            sampler = pipeline.probabilities(sampler, task.train_counts)
        table = np.stack([losses.log_prior(drawn) for drawn in np.atleast_2d(sampler)])
    log_priors = jnp.asarray(table, jnp.float32)

    def alpha(step: jax.Array) -> jax.Array:
        return jnp.asarray(schedule(step // steps), jnp.float32)

    def log_prior(step: jax.Array) -> jax.Array:
        return log_priors[jnp.minimum(step // steps, len(log_priors) - 1)]

    return alpha, log_prior


def _alpha(config: Alpha) -> Any:
    """Returns the schedule epoch -> alpha."""
    if config.schedule == 'fixed':
        return lambda epoch: config.fixed
    return schedules.aduni_alpha(
        config.max, config.min, decay_epochs=config.decay_epochs, reading=config.schedule
    )
