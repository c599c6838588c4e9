"""Optimisers and schedules from a config: all of them optax's."""

from typing import Any

import optax

from ltjax.errors import UserError, unknown

SCHEDULES = ('constant', 'cosine')
OPTIMIZERS = ('sgd', 'adam', 'adamw')


def make(config: Any, steps: int) -> optax.GradientTransformation:
    """Returns the optimiser that `config` describes.

    Args:
      config: `name`, `learning_rate`, `schedule`, and optionally `momentum`, `nesterov`, `weight_decay`
        (L2, as in torch's SGD, for 'sgd' and 'adam'; decoupled for 'adamw'), `warmup_steps`, `clip_norm`
        (global norm; 0: none).
      steps: in all; a cosine falls to zero over them.

    Raises:
      UserError: an optimiser or schedule that does not exist, or no step to make.
    """
    if config.schedule not in SCHEDULES:
        raise unknown('schedule', config.schedule, SCHEDULES)
    if config.name not in OPTIMIZERS:
        raise unknown('optimizer', config.name, OPTIMIZERS)
    if steps < 1:
        raise UserError('no step to train: epochs, rounds and virtual_per_class start at 1.')
    rate = _schedule(config, steps)
    decay = config.get('weight_decay', 0.0)
    if config.name == 'sgd':
        base = optax.sgd(rate, config.get('momentum', 0.0) or None, config.get('nesterov', False))
    elif config.name == 'adam':
        base = optax.adam(rate)
    else:
        base = optax.adamw(rate, weight_decay=decay)
    chain = [optax.clip_by_global_norm(config.clip_norm)] if config.get('clip_norm', 0.0) else []
    if decay and config.name != 'adamw':
        chain.append(optax.add_decayed_weights(decay))
    return optax.chain(*chain, base)


def _schedule(config: Any, steps: int) -> optax.Schedule:
    warmup = config.get('warmup_steps', 0)
    if config.schedule == 'cosine':
        if warmup:
            return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, steps)
        return optax.cosine_decay_schedule(config.learning_rate, steps)
    if warmup:
        return optax.linear_schedule(0.0, config.learning_rate, warmup)
    return optax.constant_schedule(config.learning_rate)
