"""Steps compiled for devices that are not there, from the shapes of what they read: no data, no weights."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies

from ltjax import benchmarks, sharding
from ltjax.engine.stage import Stage, Update
from ltjax.engine.state import TrainState
from ltjax.engine.step import make_step
from ltjax.errors import UserError

from .random_run import RandomRun

# XLA's GpuTargetConfigProto of one H100 SXM.
_H100 = """gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000
l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84978434048 shared_memory_per_block_optin: 232448
cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536 }
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3" """


@dataclasses.dataclass(frozen=True)
class Device:
    """A kind of chip.

    Attributes:
      flops: operations a second in bfloat16, at most.
      bandwidth: bytes a second of its main memory, at most.
      memory: bytes that it has.
      needs: what to install.
      environment: what must be set before JAX starts.
      topologies: by the number of chips, how they hang together; the compiler may know no fewer than are there.
    """

    flops: float
    bandwidth: float
    memory: float
    needs: str = ''
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    topologies: Mapping[int, str] = dataclasses.field(default_factory=dict)


DEVICES = {
    # https://cloud.google.com/tpu/docs/v5e
    'v5e': Device(
        197e12,
        819e9,
        16e9,
        'jax[tpu]',
        {
            'TPU_SKIP_MDS_QUERY': '1',
            'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
            'TPU_WORKER_HOSTNAMES': 'localhost',
            'TPU_WORKER_ID': '0',
        },
        {1: 'v5e:2x2', 8: 'v5e:2x4', 32: 'v5e:4x8'},
    ),
    # https://www.nvidia.com/en-us/data-center/h100/: SXM, without sparsity.
    'h100': Device(
        989e12,
        3.35e12,
        80e9,
        'jax-cuda12-plugin',
        {},
        {1: '1x1x1', 8: '1x1x8'},
    ),
    # This machine's own: it has no ceilings that would be those of another.
    'cpu': Device(1e12, 1e11, 16e9, '', {}, {1: '', 8: ''}),
}

# The experiment of each paper.
EXPERIMENTS = {
    'lmd': 'isic2019_lt_r100@lmd',
    'aduni': 'isic2018@aduni',
    'alpa': 'bone_marrow@alpa',
    'iccl': 'imagenet_lt@iccl',
    'proco': 'isic2018@proco',
}


def prepare(device: str, chips: int) -> None:
    """Sets what JAX must find when it first looks for devices."""
    os.environ.update(DEVICES[device].environment)
    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_num_cpu_devices', chips if device == 'cpu' else 1)


def mesh_of(device: str, chips: int, fsdp: int) -> jax.sharding.Mesh:
    """Returns a mesh of chips, of which none needs to be there; call `prepare` first.

    Raises:
      UserError: no compiler for them is installed.
    """
    kind = DEVICES[device]
    if device == 'cpu':
        return sharding.make_mesh(jax.devices()[:chips], fsdp=fsdp)
    try:
        if device == 'h100':
            described = topologies.get_topology_desc(
                kind.topologies[chips],
                'cuda',
                topology=kind.topologies[chips],
                target_config=_H100,
            )
        else:
            described = topologies.get_topology_desc(kind.topologies[chips], 'tpu')
    except RuntimeError as error:
        raise UserError(
            f'{device} cannot be compiled for: is {kind.needs} installed? ({error})'
        ) from None
    return sharding.make_mesh(described.devices[:chips], fsdp=fsdp)


class AbstractRun(RandomRun):
    """A paper's experiment with a method, of which only shapes are known."""

    def __init__(self, method: str, experiment: str, overrides: Mapping[str, Any]) -> None:
        """Takes configs/METHOD.py for an experiment, with changes to it."""
        known = benchmarks.get(experiment)
        images = known.images.get('train') or known.images.get('all') or 4000
        data = known.data_config()
        # What a benchmark leaves to the files: those of the small sets are grey, of 28 pixels.
        sizes = (known.classes or 10, images, data.channels or (3 if known.paper else 1))
        super().__init__(method, experiment, dict(overrides), sizes)
        self.pixels = data.image_size or 28

    def train_features(self, state: TrainState) -> jax.Array:
        """Returns features without keeping them: inside `jax.eval_shape` they are of this call alone."""
        self._features = None
        return super().train_features(state)

    def lowered(self, stage: Stage, update: Update, mesh: jax.sharding.Mesh) -> jax.stages.Lowered:
        """Returns the step of an update on a mesh, ready to compile."""
        state = jax.eval_shape(lambda: self.enter(stage))
        state = _placed(state, sharding.state_shardings(state, mesh))
        batch = self._batch(update.batch_size, bool(update.views))
        if update.sampler is None:
            batch = {}
        for name, stream in update.streams.items():
            batch[name] = self._batch(update.batch_size, bool(stream.views))
        split, whole = sharding.batch_sharding(mesh), sharding.replicated(mesh)
        batch = _placed(batch, jax.tree.map(lambda _: split, batch))
        key, number = _placed(
            (jax.eval_shape(lambda: self.key(update.name)), jax.ShapeDtypeStruct((), jnp.int32)),
            (whole, whole),
        )
        step: Any = make_step(update, self.graphdef, mesh)
        return step.lower(state, batch, key, number)

    def _batch(self, size: int, images: bool) -> dict[str, Any]:
        batch: dict[str, Any] = {
            name: jax.ShapeDtypeStruct((size,), np.int32) for name in ('index', 'label')
        }
        if images:
            shape = (size, self.pixels, self.pixels, self.channels)
            batch['image'] = jax.ShapeDtypeStruct(shape, np.uint8)
        return batch


def _placed(tree: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        tree,
        shardings,
    )
