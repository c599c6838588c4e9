"""BALMS (Ren et al., NeurIPS 2020): balanced softmax, and rates of the classes that are learned with the classifier.

Stage 1 trains the network by balanced softmax. Stage 2 keeps the encoder and learns a classifier from examples that a
meta sampler draws. In each step it draws some, sees how the classifier would do on class-balanced images after a step
on them, and moves its rates accordingly; then the classifier makes its own step.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ltjax import losses
from ltjax.engine import optim
from ltjax.engine.stage import Batch, Loss, Recipe, Run, Stage, Stream, reset_classifier
from ltjax.engine.state import TrainState
from ltjax.engine.step import key_for
from ltjax.methods import supervised
from ltjax.methods.supervised.heads import add_head
from ltjax.methods.supervised.stage import supervised_stage
from ltjax.methods.task import Epochs, Task, epochs_of
from ltjax.models import ImageClassifier
from ltjax.settings import at_least, positive


@dataclasses.dataclass(frozen=True)
class MetaTraining(Epochs):
    """The second stage.

    Attributes:
      reset_classifier: begin with a new one.
      tau: of the loss, cross-entropy of logits + tau log prior: 1 is balanced softmax, 0 cross-entropy.
      power: of the rates at the beginning, see `losses.meta_sampler_probabilities`; 0: all alike.
      inner_learning_rate: of the step that the sampler looks ahead, plain gradient descent.
      sampler_optimizer: of the logits of the rates.
      redraw: the classifier learns from examples drawn anew by the moved rates; else, as in the released code, from
        those on which the sampler looked ahead.
    """

    reset_classifier: bool
    tau: Annotated[float, at_least(0)]
    power: Annotated[float, at_least(0)]
    inner_learning_rate: Annotated[float, positive()]
    sampler_optimizer: optim.Optimizer
    redraw: bool


@dataclasses.dataclass(frozen=True)
class Config(supervised.Config):
    """BALMS's values: a first stage, and a second."""

    retrain: MetaTraining


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the supervised stage of `config.train` and the meta-sampled one of `config.retrain`.

    Raises:
      UserError: parts that do not fit together.
    """
    first = supervised_stage(config.train, task, head=config.head)
    second = _meta_sampled(config.retrain, task)
    return Recipe((first, second), add_head(config.head, task), _plots)


def _meta_sampled(config: MetaTraining, task: Task) -> Stage:
    """Returns the second stage, whose `extra['sampler']` has the logits 'psi' [K] and the state of their optimiser.

    The released code draws from all training images; this draws, with replacement, as many from each batch of an
    ordinary stream, which is the same on average.
    """
    steps = task.steps(config.batch_size)
    optimizer = optim.make(config.sampler_optimizer, config.epochs, steps)
    balanced_softmax = functools.partial(
        losses.logit_adjusted,
        log_prior=jnp.asarray(losses.log_prior(task.train_counts), jnp.float32),
        tau=config.tau,
    )

    def loss_fn(
        model: ImageClassifier, extra: Any, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Loss:
        psi, labels, balanced = extra['sampler']['psi'], batch['label'], batch['balanced']
        features, others = model.encode(batch['view']), model.encode(balanced['view'])
        graphdef, state = nnx.split(model.classifier)
        parameters, rest = nnx.split_state(state, nnx.Param, ...)

        def classify(parameters: Any, features: jax.Array) -> jax.Array:
            classifier: Any = nnx.merge(graphdef, parameters, rest, copy=True)
            return classifier(features)

        def uniform(purpose: str) -> jax.Array:
            return jax.random.uniform(key_for(key, purpose), (len(labels), len(labels)))

        def meta_loss(psi: jax.Array) -> jax.Array:
            values = losses.meta_sampler_loss(
                psi,
                classify,
                jax.lax.stop_gradient(parameters),
                (features, labels),
                (others, balanced['label']),
                uniform('ahead'),
                learning_rate=config.inner_learning_rate,
                inner_loss=balanced_softmax,
            )
            return losses.mean(values)

        ahead, gradient = jax.value_and_grad(meta_loss)(psi)
        updates, moments = optimizer.update(gradient, extra['sampler']['optimizer'], psi)
        moved = optax.apply_updates(psi, updates)
        by, purpose = (moved, 'anew') if config.redraw else (psi, 'ahead')
        drawn = losses.meta_sample(by, labels, uniform(purpose)).indices
        values = balanced_softmax(classify(parameters, features[drawn]), labels[drawn])
        sampler = {'psi': moved, 'optimizer': moments}
        return Loss(losses.mean(values), {'meta_loss': ahead}, {'sampler': sampler})

    def begin(state: TrainState, run: Run) -> TrainState:
        if config.reset_classifier:
            state = reset_classifier(state, run)
        logits = losses.meta_sampler_logits(task.train_counts, power=config.power)
        psi = jnp.asarray(logits, jnp.float32)
        return state._replace(extra={'sampler': {'psi': psi, 'optimizer': optimizer.init(psi)}})

    views = {'view': task.view(config.view)}
    update = epochs_of(
        config,
        task,
        loss_fn,
        name='retrain',
        sampler='instance_balanced',
        views=views,
        streams={'balanced': Stream('class_balanced', views)},
        trains='classifier',
        batch_norm='running',
    )
    return Stage('meta_sampled', (update,), rounds=config.epochs, prepare=begin)


def _plots(state: TrainState) -> Sequence[dict[str, Any]]:
    """Returns the rates that were learned."""
    rates = 1 / (1 + np.exp(-np.asarray(state.extra['sampler']['psi'], np.float64)))
    return ({'title': 'learned sampling rate', 'per_class': rates.tolist()},)
