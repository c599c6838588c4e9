"""Optimisers and schedules: all of them optax's, and what parameters have of them by their path."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ltjax import losses
from ltjax.engine.settings import Group, Optimizer
from ltjax.errors import UserError, unknown
from ltjax.models.depth import depths

__all__ = ['Group', 'Optimizer', 'make']


def make(config: Optimizer, rounds: int, steps: int) -> optax.GradientTransformation:
    """Returns the optimiser of an update that makes `steps` steps in each of `rounds` rounds.

    Raises:
      UserError: no step to make, or values that do not fit together; when it first sees the
        parameters: a group that none belongs to.
    """
    if rounds * steps < 1:
        raise UserError('no step to train: epochs, rounds and virtual_per_class start at 1.')
    if config.box and (config.max_norm or config.max_norm_threshold):
        raise UserError(
            'box and max_norm leave no weights that fit both for sure: use one of them.'
        )
    rate = optax.scale_by_learning_rate(_schedule(config, rounds, steps))
    if config.name == 'sgd':
        base = [optax.trace(config.momentum, config.nesterov)] if config.momentum else []
    else:
        base = [optax.scale_by_adam()]
    decay = [_decay(config)] if config.weight_decay else []
    chain = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    chain += [*base, *decay] if config.name == 'adamw' else [*decay, *base]
    chain.append(rate)
    if config.groups:
        chain.append(_by_path(config, lambda update, _, group: group.rate * update))
    if config.layer_decay != 1:
        chain.append(_by_depth(config.layer_decay))
    if config.max_norm or config.max_norm_threshold:
        chain.append(_projection(config))
    if config.box:
        chain.append(_box(config))
    return optax.chain(*chain)


def _schedule(config: Optimizer, rounds: int, steps: int) -> optax.Schedule:
    warmup, total = round(config.warmup_epochs * steps), rounds * steps
    if warmup >= total:
        raise UserError(
            f'warmup_epochs {config.warmup_epochs:g} leaves no step of {rounds} epochs: make it shorter.'
        )
    if config.schedule == 'cosine':
        if config.floor > config.learning_rate:
            raise UserError(
                f'floor {config.floor:g} is above learning_rate {config.learning_rate:g}: make it smaller.'
            )
        share = config.floor / config.learning_rate if config.floor else 0.0
        main = optax.cosine_decay_schedule(config.learning_rate, total - warmup, share)
    elif config.schedule == 'multistep':
        outside = [m for m in config.milestones if not config.warmup_epochs < m < rounds]
        if outside or not config.milestones:
            raise UserError(
                f"schedule 'multistep' has milestones {config.milestones}: use epochs after "
                f'{config.warmup_epochs:g} and before {rounds}.'
            )
        main = optax.piecewise_constant_schedule(
            config.learning_rate, {m * steps - warmup: config.factor for m in config.milestones}
        )
    else:
        main = optax.constant_schedule(config.learning_rate)
    if not warmup:
        return main
    rise = optax.linear_schedule(0.0, config.learning_rate, warmup)
    return optax.join_schedules([rise, main], [warmup])


def _decay(config: Optimizer) -> optax.GradientTransformation:
    if not config.groups:
        return optax.add_decayed_weights(config.weight_decay)
    return _by_path(
        config, lambda update, weight, group: update + config.weight_decay * group.decay * weight
    )


def _by_path(
    config: Optimizer, change: Callable[[jax.Array, jax.Array, Group], jax.Array]
) -> optax.GradientTransformation:
    """Returns the transformation that changes an update by its parameter and by the shares of its groups."""

    def check(parameters: Any) -> optax.EmptyState:
        paths = [_names(path) for path, _ in jax.tree.leaves_with_path(parameters)]
        for name in config.groups:
            if not any(_belongs(path, name) for path in paths):
                raise unknown('group of parameters', name, paths)
        return optax.EmptyState()

    def one(path: Any, update: jax.Array, weight: jax.Array) -> jax.Array:
        rate = decay = 1.0
        for name, group in config.groups.items():
            if _belongs(_names(path), name):
                rate, decay = rate * group.rate, decay * group.decay
        return change(update, weight, Group(rate, decay))

    return optax.GradientTransformation(check, _over_leaves(one))


def _by_depth(decay: float) -> optax.GradientTransformation:
    """Returns the transformation that makes an update smaller by `decay` for each block above its parameter."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        depth = depths(_names(path) for path, _ in jax.tree.leaves_with_path(updates))
        changed = jax.tree.map_with_path(
            lambda path, update: decay ** depth[_names(path)] * update, updates
        )
        return changed, state

    return optax.GradientTransformation(lambda parameters: optax.EmptyState(), update)


def _names(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator='.')


def _belongs(path: str, group: str) -> bool:
    if group == 'encoder':
        return not _belongs(path, 'classifier')
    name = group.replace('/', '.')  # keys of a config have no dots
    return f'.{name}.' in f'.{path}.'


def _projection(config: Optimizer) -> optax.GradientTransformation:
    """Returns the last link of a chain: after the step no class of a classifier's kernel is longer than a cap."""

    def begin(parameters: Any) -> dict[str, jax.Array]:
        if config.max_norm:
            return {'cap': jnp.asarray(config.max_norm, jnp.float32)}
        kernels = [w for path, w in jax.tree.leaves_with_path(parameters) if _is_kernel(path)]
        if not kernels:
            raise UserError("max_norm_threshold needs a classifier's kernel that is trained.")
        return {'cap': losses.max_norm_cap(kernels[0], threshold=config.max_norm_threshold)}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def one(path: Any, update: jax.Array, weight: jax.Array) -> jax.Array:
            if not _is_kernel(path):
                return update
            return losses.project_max_norm(weight + update, state['cap']) - weight

        return jax.tree.map_with_path(one, updates, params), state

    return optax.GradientTransformation(begin, update)


def _box(config: Optimizer) -> optax.GradientTransformation:
    """Returns the last link of a chain: after the step every parameter is near its value before the first."""

    def begin(parameters: Any) -> dict[str, Any]:
        return {'centre': jax.tree.map(jnp.copy, parameters)}  # the step donates the parameters

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        moved = optax.tree.add(params, updates)
        within = losses.project_to_box(moved, state['centre'], config.box)
        return optax.tree.sub(within, params), state

    return optax.GradientTransformation(begin, update)


def _is_kernel(path: Any) -> bool:
    return _belongs(_names(path), 'classifier.kernel')


def _over_leaves(
    change: Callable[[Any, jax.Array, jax.Array], jax.Array],
) -> optax.TransformUpdateFn:
    """Returns the update that applies (path, update, weight) -> update to every parameter."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map_with_path(change, updates, params), state

    return update
