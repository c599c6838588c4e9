"""One mesh for every run: the batch is sharded over its `data` axis, the state is replicated.

Axes are Auto: XLA chooses the collectives, and every sum over the batch is a sum over the global batch.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ltjax.errors import UserError


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns the mesh with the one axis `data` over `devices` (default: all)."""
    devices = jax.devices() if devices is None else list(devices)
    return jax.make_mesh((len(devices),), ('data',), axis_types=(AxisType.Auto,), devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits the leading axis over the devices."""
    return NamedSharding(mesh, PartitionSpec('data'))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that keeps a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts every leaf of `tree` whole on every device of `mesh`."""
    return jax.device_put(tree, replicated(mesh))


def check_batch_size(batch_size: int, mesh: Mesh, what: str) -> None:
    """Raises UserError if a batch does not split evenly over the devices of `mesh`."""
    if batch_size % mesh.size:
        nearest = max(1, round(batch_size / mesh.size)) * mesh.size
        raise UserError(
            f'{what} is {batch_size}, which {mesh.size} devices cannot share evenly: use {nearest}.'
        )
