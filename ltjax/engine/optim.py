"""Optimisers and schedules: all of them optax's."""

import dataclasses
from typing import Annotated, Literal

import optax

from ltjax.errors import UserError
from ltjax.settings import at_least


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimiser.

    Attributes:
      name: of optax.
      learning_rate: at its highest.
      schedule: of the rate; a cosine falls to zero.
      momentum, nesterov: of 'sgd'.
      weight_decay: L2, as in torch's SGD, for 'sgd' and 'adam'; decoupled for 'adamw'.
      warmup_steps: over which the rate rises from zero.
      clip_norm: the largest global norm of a gradient; 0: none.
    """

    name: Literal['sgd', 'adam', 'adamw']
    learning_rate: float
    schedule: Literal['constant', 'cosine']
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    warmup_steps: Annotated[int, at_least(0)] = 0
    clip_norm: Annotated[float, at_least(0)] = 0.0


def make(config: Optimizer, steps: int) -> optax.GradientTransformation:
    """Returns the optimiser for `steps` steps in all.

    Raises:
      UserError: no step to make.
    """
    if steps < 1:
        raise UserError('no step to train: epochs, rounds and virtual_per_class start at 1.')
    rate = _schedule(config, steps)
    decay = config.weight_decay
    if config.name == 'sgd':
        base = optax.sgd(rate, config.momentum or None, config.nesterov)
    elif config.name == 'adam':
        base = optax.adam(rate)
    else:
        base = optax.adamw(rate, weight_decay=decay)
    chain = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    if decay and config.name != 'adamw':
        chain.append(optax.add_decayed_weights(decay))
    return optax.chain(*chain, base)


def _schedule(config: Optimizer, steps: int) -> optax.Schedule:
    warmup = config.warmup_steps
    if config.schedule == 'cosine':
        if warmup:
            return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, steps)
        return optax.cosine_decay_schedule(config.learning_rate, steps)
    if warmup:
        return optax.linear_schedule(0.0, config.learning_rate, warmup)
    return optax.constant_schedule(config.learning_rate)
