"""The train-step factory: any `Update` becomes one jitted, donated, sharded function."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from ltjax import sharding
from ltjax.engine.stage import Batch, Update, View
from ltjax.engine.state import TrainState, parameter_filter
from ltjax.engine.streams import gather
from ltjax.models import set_chunks, set_key

Step = Callable[..., tuple[TrainState, dict[str, jax.Array]]]
Forward = Callable[..., tuple[jax.Array, jax.Array]]

BATCH_NORM = ('batch', 'running')

# How XLA compiles on CPUs what runs once. At full effort the initial values of a network take nearly as long as its
# step. They differ by rounding at most, and every run of a machine makes them in this way.
_ONCE = {'xla_backend_optimization_level': 1}


def make_init(
    create: Callable[[jax.Array], nnx.Module],
) -> Callable[[jax.Array], tuple[nnx.GraphDef[Any], nnx.State[Any, Any]]]:
    """Returns `init(key) -> (structure, initial values)` of the network that `create` makes."""
    # Who asks JAX for less effort than this gets it.
    less = jax.default_backend() == 'cpu' and not jax.config.read('jax_disable_most_optimizations')
    return jax.jit(lambda key: nnx.split(create(key)), compiler_options=_ONCE if less else None)


def make_step(
    update: Update,
    graphdef: nnx.GraphDef[Any],
    mesh: jax.sharding.Mesh,
    *,
    accumulate: int = 1,
    skip_nonfinite: bool = False,
    per_call: int = 1,
) -> Step:
    """Returns `step(state, batch, key, step) -> (state, metrics)` for one update.

    The loss and its gradient are those of the global batch. Parameters that `update.trains` does not
    select are constants, bit for bit unchanged. Metrics are 'loss', 'gradient_norm' and what the loss
    function adds.

    With `per_call` the function is `step(state, data, key, step, count)` and makes `count` steps, for the host's work
    of one. `data` is `Feed.resident` and the positions of each stream, int32 [per_call, B], of which `count`
    rows count. The metrics are arrays [per_call], with zeros after `count` of them.

    Args:
      update: what to do in a step.
      graphdef: the network's structure.
      mesh: the batch is split over it; the state lies as `sharding.state_sharding` says.
      accumulate: parts of the batch that the encoder takes one after another; changes no result.
      skip_nonfinite: a step with a NaN or infinity, logged or in its state, leaves the state as it was; the metric
        'skipped' tells.
      per_call: steps that a call can make.
    """
    trains = parameter_filter(update.trains)

    def one_step(
        state: TrainState, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(key, step)
        with jax.named_scope('augmentation'):
            further = {
                name: _with_views(stream.views, batch[name], key_for(key, f'stream {name}'))
                for name, stream in update.streams.items()
            }
            batch = _with_views(update.views, batch, key) | further
        trainable, statistics, frozen = nnx.split_state(state.model, trains, nnx.BatchStat, ...)

        def objective(trainable: nnx.State[Any, Any]) -> tuple[jax.Array, Any]:
            model = nnx.merge(graphdef, trainable, statistics, frozen, copy=True)
            set_batch_norm(model, update.batch_norm)
            set_key(model, key_for(key, 'model'))
            set_chunks(model, accumulate)
            with jax.named_scope('loss'):
                loss = update.loss_fn(model, state.extra, batch, key_for(key, 'loss'), step)
            extra = state.extra if loss.extra is None else loss.extra
            return loss.value, (dict(loss.logged), extra, nnx.state(model, nnx.BatchStat))

        (value, aux), gradients = jax.value_and_grad(objective, has_aux=True)(trainable)
        logged, extra, statistics = aux
        with jax.named_scope('optimiser'):
            steps, optimizer = update.optimizer.update(
                gradients, state.optimizers[update.name], trainable
            )
            model = nnx.merge_state(optax.apply_updates(trainable, steps), statistics, frozen)
            if update.after_step is not None:
                extra = update.after_step(extra, model, step)
            norm = optax.tree.norm(gradients)
        metrics = {'loss': value, 'gradient_norm': norm} | logged
        optimizers = state.optimizers | {update.name: optimizer}
        after = TrainState(model, optimizers, extra)
        if skip_nonfinite:
            good = all_finite((metrics, after))
            after = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, state)
            metrics = metrics | {'skipped': ~good}
        shardings = sharding.state_shardings(after, mesh)
        return jax.lax.with_sharding_constraint(after, shardings), metrics

    # The metrics' shapes and the loop need the same trace, which is most of what Python does before the first call.
    traced_once = jax.jit(one_step, inline=True)

    def many_steps(
        state: TrainState, data: tuple[Any, Any], key: jax.Array, step: jax.Array, count: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        resident, positions = data

        def batch(at: jax.Array | int) -> Batch:
            rows = {name: each[at] for name, each in positions.items()}
            lying = sharding.batch_sharding(mesh)
            return jax.lax.with_sharding_constraint(gather(update, resident, rows), lying)

        def one(at: jax.Array, carry: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
            state, metrics = traced_once(carry[0], batch(at), key, step + at)
            return state, jax.tree.map(lambda all_, new: all_.at[at].set(new), carry[1], metrics)

        _, like = jax.eval_shape(lambda: traced_once(state, batch(0), key, step))
        metrics = jax.tree.map(lambda leaf: jnp.zeros((per_call, *leaf.shape), leaf.dtype), like)
        # A count that is not known when it compiles: one function serves every length that a round leaves over.
        return jax.lax.fori_loop(0, count, one, (state, metrics))

    # The state comes as `sharding.place_state` laid it: what a method keeps beside the network is its own.
    return jax.jit(one_step if per_call == 1 else many_steps, donate_argnums=0)


def make_forward(graphdef: nnx.GraphDef[Any], mesh: jax.sharding.Mesh, view: View) -> Forward:
    """Returns `forward(model state, images uint8, key=None) -> (features, logits)`, in inference mode.

    Args:
      graphdef: the network's structure.
      mesh: images are split over it; the results are whole on every device.
      view: (key, images) -> normalised float32; must not be random where no key is given.
    """

    def forward(
        model_state: nnx.State[Any, Any], images: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graphdef, model_state, copy=True)
        set_batch_norm(model, 'running')
        outputs = model(view(jax.random.key(0) if key is None else key, images))
        return outputs.features, outputs.logits

    return jax.jit(forward, out_shardings=sharding.replicated(mesh))


def set_batch_norm(model: nnx.Module, mode: str) -> None:
    """Puts every BatchNorm of `model` into 'batch' or 'running' mode, in place."""
    if mode == 'batch':
        model.train()
    elif mode == 'running':
        model.eval()
    else:
        raise ValueError(f'batch_norm is {mode!r}, not batch or running')


def key_for(key: jax.Array, purpose: str) -> jax.Array:
    """Returns the key of a named purpose: names, not an order of splits, so that adding one moves no other."""
    return jax.random.fold_in(key, jnp.uint32(zlib.crc32(purpose.encode())))


def all_finite(tree: Any) -> jax.Array:
    """Returns whether no leaf of `tree` holds a NaN or an infinity: bool []."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def _with_views(views: Mapping[str, View], batch: Batch, key: jax.Array) -> dict[str, Any]:
    """Returns a batch with named, augmented views in place of its raw images."""
    made = {
        name: view(key_for(key, f'view {name}'), batch['image']) for name, view in views.items()
    }
    return {name: value for name, value in batch.items() if name != 'image'} | made
