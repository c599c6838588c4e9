"""One mesh for every run: its axis `data` splits the batch, its axis `fsdp` the batch and large arrays of the state.

Axes are Auto: XLA chooses the collectives, and every sum over the batch is a sum over the global batch. All of it
works in one process and in several alike; a process reads and writes what lies on its own devices.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ltjax.errors import UserError

Tree = TypeVar('Tree')

AXES = ('data', 'fsdp')

# Arrays of fewer elements are whole on every device: to gather them would take longer than to read them.
WHOLE_BELOW = 1 << 14


def make_mesh(
    devices: Sequence[jax.Device] | None = None, *, data: int = -1, fsdp: int = 1
) -> Mesh:
    """Returns the mesh of `data` x `fsdp` devices.

    Args:
      devices: default: all, of all processes.
      data: along which only the batch is split; -1: as many as there are devices for.
      fsdp: along which parameters and optimiser state are split too, so that they take less memory on each.

    Raises:
      UserError: the product is not the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    count = len(devices)
    if fsdp < 1 or count % fsdp:
        fitting = ', '.join(str(n) for n in range(1, count + 1) if count % n == 0)
        raise UserError(
            f'mesh.fsdp is {fsdp}, which does not divide {count} devices: use one of {fitting}.'
        )
    if data == -1:
        data = count // fsdp
    if data * fsdp != count:
        raise UserError(
            f'mesh.data {data} x mesh.fsdp {fsdp} is not {count}, the number of devices: '
            f'use mesh.data={count // fsdp}, or -1.'
        )
    return jax.make_mesh(
        (data, fsdp), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits the leading axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that keeps a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(shape: Sequence[int], mesh: Mesh) -> NamedSharding:
    """Returns how an array of the state lies: its longest axis that `fsdp` divides is split, the last of equals.

    Small arrays, and those without such an axis, are whole on every device.
    """
    parts = mesh.shape['fsdp']
    fitting = [axis for axis, size in enumerate(shape) if size % parts == 0]
    if parts == 1 or math.prod(shape) < WHOLE_BELOW or not fitting:
        return replicated(mesh)
    axis = max(fitting, key=lambda axis: (shape[axis], axis))
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, 'fsdp'))


def state_shardings(tree: Any, mesh: Mesh) -> Any:
    """Returns `state_sharding` of every leaf of `tree`."""
    return jax.tree.map(lambda leaf: state_sharding(np.shape(leaf), mesh), tree)


def place_state(tree: Tree, mesh: Mesh) -> Tree:
    """Puts every leaf of `tree`, the same in every process, as `state_sharding` says."""
    placed: Tree = _put(tree, state_shardings(tree, mesh))
    return placed


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts every leaf of `tree`, the same in every process, whole on every device of `mesh`."""
    return _put(tree, jax.tree.map(lambda _: replicated(mesh), tree))


def _put(tree: Any, shardings: Any) -> Any:
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    # An array that lies on devices of other processes too can only be moved by all of them together.
    return jax.jit(lambda tree: tree, out_shardings=shardings)(tree)


@functools.lru_cache(maxsize=64)
def process_rows(batch_size: int, mesh: Mesh) -> np.ndarray:
    """Returns which rows of a batch lie on the devices of this process, int64, ascending."""
    slices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    rows = np.arange(batch_size)
    return np.unique(np.concatenate([rows[index] for index in slices if index is not None]))


def put_batch(rows: Any, mesh: Mesh, batch_size: int) -> Any:
    """Returns the global batch, of which every process gives its own rows: a tree of [rows, ...] arrays.

    Args:
      rows: of `process_rows`, in that order.
      mesh: over which the batch is split.
      batch_size: of the global batch.
    """
    split = batch_sharding(mesh)

    def put(local: np.ndarray) -> jax.Array:
        if jax.process_count() == 1:
            return jax.device_put(local, split)
        whole = (batch_size, *local.shape[1:])
        return jax.make_array_from_process_local_data(split, local, whole)

    return jax.tree.map(put, rows)


def map_classes(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Returns `function` of arrays [K, ...] with its classes shared out over the devices.

    Args:
      function: of arrays with one row a class to a tree of such arrays; each row by itself.
      mesh: whose devices take ceil(K / devices) classes each. Missing ones are copies of the last.
    """
    if mesh.size == 1:
        return function

    def mapped(*arrays: jax.Array) -> Any:
        num_classes = len(arrays[0])
        index = np.minimum(np.arange(-(-num_classes // mesh.size) * mesh.size), num_classes - 1)
        spec = PartitionSpec(AXES)
        # Rows do not depend on one another, which jax cannot see through a solver.
        shared = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)(
            *[array[index] for array in arrays]
        )
        return jax.tree.map(lambda result: result[:num_classes], shared)

    return mapped


def map_rows(function: Callable[..., jax.Array], batch: jax.Array, whole: jax.Array) -> jax.Array:
    """Returns function(batch, whole), of which every device makes its own rows; inside a jitted function.

    For what XLA would have every device do for the whole batch, though each row is by itself.

    Args:
      function: of [B, ...] and an array that all rows share, to [B, ...].
      batch: split over all devices, if its rows divide evenly; else, and where it lies on no mesh, XLA chooses.
      whole: the same on every device.
    """
    mesh = jax.typeof(batch).sharding.mesh
    if mesh.size == 1 or mesh.axis_names != AXES or len(batch) % mesh.size:
        return function(batch, whole)
    rows = PartitionSpec(AXES)
    specs = (rows, PartitionSpec())
    made: jax.Array = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=rows)(
        batch, whole
    )
    return made


def data_parts(array: jax.Array) -> int:
    """Returns in how many parts `data` splits a batch, inside a jitted function.

    Args:
      array: made from an argument that lies on a mesh; a loss, which is not told of the mesh, finds it there.

    Returns:
      The devices along `data`; 1 where the arguments lie on no mesh.
    """
    return int(jax.typeof(array).sharding.mesh.shape.get('data', 1))


def split_data(array: jax.Array, axis: int) -> jax.Array:
    """Returns `array` with `axis` split over `data`, inside a jitted function; values do not change.

    An axis that does not divide evenly is padded by XLA, which leaves the padding out of sums. How the other axes lie
    is XLA's choice.

    Args:
      array: of which `data_parts` knows the mesh.
      axis: from 0; of any length.

    Raises:
      ValueError: the array lies on no mesh.
    """
    spec: list[Any] = [PartitionSpec.UNCONSTRAINED] * array.ndim
    spec[axis] = 'data'
    split = NamedSharding(jax.typeof(array).sharding.mesh, PartitionSpec(*spec))
    return jax.lax.with_sharding_constraint(array, split)


def check_batch_size(batch_size: int, mesh: Mesh, what: str, *, parts: int = 1) -> None:
    """Raises UserError if a batch in `parts` does not split evenly over the devices of `mesh`."""
    if parts < 1:
        raise UserError(f'accumulate is {parts}: use 1 or more.')
    share = mesh.size * parts
    if batch_size % share:
        nearest = max(1, round(batch_size / share)) * share
        in_parts = f' in {parts} parts' if parts > 1 else ''
        raise UserError(
            f'{what} is {batch_size}, which {mesh.size} devices cannot share evenly{in_parts}: '
            f'use {nearest}.'
        )
