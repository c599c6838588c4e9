"""M2m (Kim et al., CVPR 2020): images of minor classes are made from images of major ones.

Stage 1 trains a network g as it is. Stage 2 trains another, f, from the same first weights; late in it images are
drawn class-balanced, and most of those of minor classes give way to an image of a larger class that was changed, pixel
by pixel, until g takes it for one of the minor class and f no longer for what it was.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax import losses
from ltjax.engine.stage import Batch, Loss, Recipe, Run, Stage
from ltjax.engine.state import TrainState
from ltjax.engine.step import key_for, set_batch_norm
from ltjax.errors import UserError
from ltjax.methods.supervised.stage import Learning, supervised_stage
from ltjax.methods.task import Supervised, Task, epochs_of
from ltjax.models import ImageClassifier
from ltjax.models.held import Held
from ltjax.settings import at_least, from_to, from_to_below, positive


@dataclasses.dataclass(frozen=True)
class Translating(Supervised):
    """The second stage.

    Attributes:
      defer_until: the epoch from which `sampler` acts and images are translated.
      beta: of the larger class from which an image may come, see `losses.m2m_seed_acceptance`.
      lam: weight of f's logit of the class that an image was of.
      confidence: gamma, the least probability by g of the class that it should be of.
      iterations: steps of the pixels.
      step_size: length of each.
      radius: of the noise that the pixels start with.
    """

    defer_until: Annotated[int, at_least(0)]
    beta: Annotated[float, from_to_below(0, 1)]
    lam: Annotated[float, at_least(0)]
    confidence: Annotated[float, from_to(0, 1)]
    iterations: Annotated[int, at_least(1)]
    step_size: Annotated[float, positive()]
    radius: Annotated[float, positive()]


@dataclasses.dataclass(frozen=True)
class Config:
    """M2m's values.

    Attributes:
      train: the first stage, of g.
      retrain: the second, of f.
    """

    train: Learning
    retrain: Translating


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the supervised stage of `config.train` and the translating one of `config.retrain`.

    Raises:
      UserError: parts that do not fit together.
    """

    def keep_first(state: TrainState, run: Run) -> TrainState:
        return state._replace(extra=state.extra | {'first': jax.tree.map(jnp.copy, state.model)})

    first = supervised_stage(config.train, task, prepare=keep_first)
    return Recipe((first, _translating(config.retrain, task)))


def _translating(config: Translating, task: Task) -> Stage:
    """Returns the second stage, whose `extra['g']` is the first network.

    All places of a batch are translated, also those that then stay as they are: how many do is not known beforehand.
    """
    if config.defer_until >= max(config.epochs, 1):
        raise UserError(
            f'retrain.defer_until {config.defer_until} is not before the end of {config.epochs} epochs: make it '
            'smaller.'
        )
    begin = config.defer_until * task.steps(config.batch_size)
    acceptance = jnp.asarray(
        losses.m2m_seed_acceptance(task.train_counts, beta=config.beta), jnp.float32
    )
    keep = jnp.asarray(losses.m2m_keep_probability(task.train_counts), jnp.float32)
    mean = jnp.asarray(task.mean, jnp.float32)[None, None, None, :]
    std = jnp.asarray(task.std, jnp.float32)[None, None, None, :]

    def from_pixels(graphdef: Any, state: Any) -> Callable[[jax.Array], jax.Array]:
        """Returns pixels from 0 to 1 -> logits of a network, held constant, by its running statistics."""
        constant = jax.tree.map(jax.lax.stop_gradient, state)

        def logits(pixels: jax.Array) -> jax.Array:
            model = nnx.merge(graphdef, constant, copy=True)
            set_batch_norm(model, 'running')
            return model((pixels - mean) / std).logits

        return logits

    def loss_fn(
        model: ImageClassifier, extra: Any, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Loss:
        images, labels = batch['view'], batch['label']
        graphdef, state = nnx.split(model)
        g = from_pixels(graphdef, nnx.merge_state(state, extra['g']))
        f = from_pixels(graphdef, state)

        def translated(images: jax.Array) -> tuple[jax.Array, jax.Array]:
            """Returns the images with translations in some places, and in which."""
            chosen = losses.m2m_seeds(key_for(key, 'seeds'), labels, labels, acceptance=acceptance)
            seeds = labels[chosen]
            pixels = losses.m2m_translate(
                g,
                f,
                losses.m2m_start(
                    key_for(key, 'start'), images[chosen] * std + mean, radius=config.radius
                ),
                seeds,
                labels,
                lam=config.lam,
                step_size=config.step_size,
                steps=config.iterations,
            )
            good = losses.m2m_accepted(g(pixels), labels, confidence=config.confidence)
            # A target without a larger class in the batch has a seed of acceptance 0, and stays.
            good &= _chance(key_for(key, 'accept'), acceptance[seeds, labels])
            good &= ~_chance(key_for(key, 'keep'), keep[labels])
            return jnp.where(good[:, None, None, None], (pixels - mean) / std, images), good

        def untouched(images: jax.Array) -> tuple[jax.Array, jax.Array]:
            return images, jnp.zeros(len(images), bool)

        images, good = jax.lax.cond(step >= begin, translated, untouched, images)
        values = losses.softmax_cross_entropy(model(images).logits, labels)
        return Loss(losses.mean(values), {'translated': jnp.mean(good.astype(values.dtype))})

    def begin_anew(state: TrainState, run: Run) -> TrainState:
        # A first stage that another run lent has not kept the weights it began with.
        first = state.extra.get('first')
        if first is None:
            first = run.new_model(run.key('second network'))
            if nnx.filter_state(state.model, Held):
                # What both networks hold was loaded; only what trains is drawn anew. A step donates both.
                held = jax.tree.map(jnp.copy, state.model)
                first = nnx.merge_state(held, nnx.filter_state(first, nnx.Param))
        return state._replace(model=first, extra={'g': state.model})

    update = epochs_of(
        config,
        task,
        loss_fn,
        name='retrain',
        sampler=task.sampler(config.sampler, config.epochs, defer_until=config.defer_until),
    )
    return Stage('translation', (update,), rounds=config.epochs, prepare=begin_anew)


def _chance(key: jax.Array, probability: jax.Array) -> jax.Array:
    return jax.random.uniform(key, probability.shape) < probability
