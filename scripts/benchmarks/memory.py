"""What a train step takes of a device's memory, by the compiled step's own account, against the least it could take."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltjax.engine.state import parameter_filter
from ltjax.engine.step import make_step

from .random_run import RandomRun, dataset, network

# Beside the plain step: of those that changes its memory.
VARIANTS: dict[str, dict[str, Any]] = {
    'plain': {},
    'remat': {'model.remat': True},
    'accumulate': {'accumulate': 4},
    'bfloat16': {'model.dtype': 'bfloat16'},
    'bfloat16, remat': {'model.dtype': 'bfloat16', 'model.remat': True},
}


def of_step(model: str, variant: str, *, small: bool, batch: int = 16) -> dict[str, Any]:
    """Returns millions of bytes of a step of cross-entropy with momentum at 224 pixels; nothing runs.

    - state_mb: parameters, momentum and running statistics. It is donated: what the step returns takes its place, but
      for `copied_mb`.
    - gradients_mb: of all parameters, which lie there at once when their norm is taken.
    - kept_mb: what JAX keeps of the forward pass for the backward one, each array once, parameters left out.
    - temporary_mb: what XLA plans beside state and batch; over_kept is its ratio to kept_mb and gradients_mb together.
    """
    pixels, batch = (32, 4) if small else (224, batch)
    overrides = dict(VARIANTS[variant])
    accumulate = overrides.pop('accumulate', 1)
    overrides |= {'method.train.view': 'none', **network(model, small)}
    run = RandomRun('cross_entropy', dataset(small), overrides, (8, 1000, 1 if small else 3))
    stage = run.stages['cross_entropy']
    update = stage.updates[0]
    inputs = run.abstract(stage, update, (batch, pixels, pixels, 1 if small else 3))
    state = inputs[0]
    step: Any = make_step(update, run.graphdef, run.mesh, accumulate=accumulate)
    plan = step.lower(*inputs).compile().memory_analysis()
    trains, statistics, rest = nnx.split_state(
        state.model, parameter_filter(update.trains), nnx.BatchStat, ...
    )
    gradients = _bytes(jax.tree.leaves(trains))

    def loss(parameters: Any, given: Any) -> jax.Array:
        others, batch = given
        network_ = nnx.merge(run.graphdef, parameters, *others, copy=True)
        network_.train()
        return update.loss_fn(network_, state.extra, batch, run.key('loss'), jnp.int32(0)).value

    images = jax.ShapeDtypeStruct(inputs[1]['image'].shape, np.float32)
    views = inputs[1] | dict.fromkeys(update.views, images)
    kept = _kept(loss, trains, ((statistics, rest), views))
    return {
        'model': model,
        'variant': variant,
        'batch': batch,
        'pixels': pixels,
        'state_mb': _bytes(jax.tree.leaves(state)) / 1e6,
        'copied_mb': (_bytes(jax.tree.leaves(state)) - plan.alias_size_in_bytes) / 1e6,
        'gradients_mb': gradients / 1e6,
        'kept_mb': kept / 1e6,
        'temporary_mb': plan.temp_size_in_bytes / 1e6,
        'over_kept': plan.temp_size_in_bytes / (kept + gradients),
    }


def _kept(loss: Any, parameters: Any, given: Any) -> int:
    """Returns the bytes of what `jax.vjp` keeps, each array once, without what was given to it."""
    traced = jax.make_jaxpr(lambda p, g: jax.vjp(lambda p: loss(p, g), p)[1])(parameters, given)
    inputs = set(map(id, traced.jaxpr.invars))
    made = {id(each): each.aval for each in traced.jaxpr.outvars if id(each) not in inputs}
    return _bytes(list(made.values()))


def _bytes(leaves: Sequence[Any]) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
