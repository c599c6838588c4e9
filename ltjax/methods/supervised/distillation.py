"""Distillation within a run: a network that is held near what it was when the stage began."""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax import losses
from ltjax.engine.state import TrainState, parameter_filter
from ltjax.engine.step import set_batch_norm
from ltjax.methods.supervised.logit_losses import LogitLoss, Moment
from ltjax.models import ImageClassifier
from ltjax.settings import from_to, positive


@dataclasses.dataclass(frozen=True)
class Distillation:
    """How near a network is held to its teacher.

    Attributes:
      weight: w, of the teacher in the loss, see `distilled`; 0: there is none.
      temperature: T, by which the logits of both are divided.
    """

    weight: Annotated[float, from_to(0, 1)] = 0.0
    temperature: Annotated[float, positive()] = 2.0


def distilled(loss: LogitLoss, config: Distillation) -> LogitLoss:
    """Returns (1 - w) loss + w T^2 KL(teacher || network), whose moments must have the teacher's logits.

    With cross-entropy it is `losses.distilled_cross_entropy` (Hinton et al., 2015).
    """

    def values(logits: jax.Array, labels: jax.Array, moment: Moment) -> jax.Array:
        if moment.teacher_logits is None:
            raise ValueError('a distilled loss needs a teacher')
        divergence = losses.kl_divergence(
            moment.teacher_logits, logits, temperature=config.temperature
        )
        own = (1 - config.weight) * loss.values(logits, labels, moment)
        return own + config.weight * config.temperature**2 * divergence

    return loss._replace(values=values)


def teacher_of(state: TrainState, trains: str, *, batch_norm: str) -> Any:
    """Returns a copy of what a stage moves: the parameters that it trains and, if they move, running statistics.

    Args:
      state: when the stage begins.
      trains: see `Update`.
      batch_norm: see `Update`.
    """
    moving = parameter_filter(trains)
    if batch_norm == 'batch':
        moving = nnx.Any(moving, nnx.BatchStat)
    return jax.tree.map(jnp.copy, nnx.split_state(state.model, moving, ...)[0])


def teacher_logits(
    model: ImageClassifier, teacher: Any, images: jax.Array, features: jax.Array, trains: str
) -> jax.Array:
    """Returns the logits [B, K] of the teacher, by its running statistics; a constant.

    Args:
      model: the network, whose other parameters are the teacher's too.
      teacher: see `teacher_of`.
      images: [B, H, W, channels].
      features: [B, C] of the network, which the teacher shares where the encoder stands still.
      trains: as in `teacher_of`.
    """
    graphdef, own = nnx.split(model)
    taught = nnx.merge(graphdef, nnx.merge_state(own, teacher), copy=True)
    set_batch_norm(taught, 'running')
    shared = f'{trains}.'.startswith('classifier.')
    return jax.lax.stop_gradient(taught.classify(features if shared else taught.encode(images)))
