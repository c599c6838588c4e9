"""What the device can do and how near a step comes to it; what a step costs, one size varied at a time."""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.engine.rounds import STEPS_PER_CALL
from ltjax.engine.step import make_step

from .measure import compiled_memory_mb, median_seconds, on_accelerator, run_through
from .random_run import NO_IMAGES, RandomRun, dataset, network


def ceilings(dtype: str, *, small: bool) -> dict[str, float]:
    """Returns operations a second of a large matrix product, and bytes a second of a large copy."""
    big = on_accelerator()
    width, length = (64, 1 << 10) if small else ((8192, 1 << 29) if big else (2048, 1 << 26))
    square = jnp.full((width, width), 1 / width, dtype)
    product = jax.jit(lambda x: x @ x)
    # Donated: into memory that is already mapped, as the state of a step is.
    copy = jax.jit(lambda x: x + 1, donate_argnums=0)
    row = jnp.zeros(length, jnp.float32)

    def multiply() -> None:
        product(square).block_until_ready()

    def move() -> None:
        nonlocal row
        row = copy(row).block_until_ready()

    seconds = median_seconds({'product': multiply, 'copy': move}, 1 if small else 9)
    return {
        'ceiling_flops_per_second': 2 * width**3 / seconds['product'],
        'ceiling_bytes_per_second': 2 * row.nbytes / seconds['copy'],
    }


def roofline(model: str, *, small: bool, turns: int = 7) -> dict[str, Any]:
    """A train step's operations and bytes, by XLA's account, against the ceilings; in bfloat16 on an accelerator.

    The bytes are those of the compiled step, whose loops count once (on CPUs, gradients of kernels).
    """
    run, batch, pixels = step_of(model, small)
    stage, dtype = run.stages['cross_entropy'], run.config.model.dtype
    update, shape = stage.updates[0], (pixels, pixels, 3)
    flops = run.flops(stage, update, batch, shape) / run.mesh.size
    bytes_ = run.compiled(stage, update, batch, shape).cost_analysis()['bytes accessed']
    steps = 10 if on_accelerator() else 1
    function = run.stepper(stage, update, batch, shape, steps=steps)
    seconds = median_seconds({'step': function}, 1 if small else turns)['step'] / steps
    limits = ceilings(dtype, small=small)
    return {
        'model': model,
        'dtype': dtype,
        'batch': batch,
        'pixels': pixels,
        'step_ms': 1e3 * seconds,
        **limits,
        **placed(flops, bytes_, seconds, limits),
    }


def step_of(model: str, small: bool) -> tuple[RandomRun, int, int]:
    """Returns a run of cross-entropy, in bfloat16 on an accelerator, and the batch and pixels of its step.

    The step is that of `beside_torch`, so that what one of them compiled is there for the other.
    """
    batch, pixels = (8, 32) if small else ((256, 224) if on_accelerator() else (16, 224))
    overrides = {
        'model.dtype': 'bfloat16' if on_accelerator() else 'float32',
        'method.train.view': 'none',
        'method.train.optimizer.weight_decay': 5e-4,
    }
    overrides |= network(model, small)
    return RandomRun('cross_entropy', dataset(small), overrides, (8, 1000, 3)), batch, pixels


def placed(
    flops: float, bytes_: float, seconds: float, limits: Mapping[str, float]
) -> dict[str, Any]:
    """Returns where work stands under the roof: its intensity, which ceiling bounds it, and how near it comes.

    Args:
      flops: operations of the work.
      bytes_: that it reads and writes.
      seconds: that it took.
      limits: see `ceilings`.
    """
    compute, memory = limits['ceiling_flops_per_second'], limits['ceiling_bytes_per_second']
    least = max(flops / compute, bytes_ / memory)
    return {
        'flops': flops,
        'bytes': bytes_,
        'flops_per_byte': flops / bytes_,
        'ridge_flops_per_byte': compute / memory,
        'bound_by': 'compute' if flops / compute > bytes_ / memory else 'memory',
        'model_flop_utilisation': flops / seconds / compute,
        'bandwidth_utilisation': bytes_ / seconds / memory,
        'share_of_roof': least / seconds,
    }


def cost_train(
    *,
    small: bool,
    batch: int = 32,
    pixels: int = 64,
    num_classes: int = 8,
    devices: int = 0,
) -> dict[str, Any]:
    """A step of cross-entropy, ResNet-18; with `devices`, on so many pretended CPU devices."""
    if devices:
        jax.config.update('jax_platforms', 'cpu')
        jax.config.update('jax_num_cpu_devices', devices)
    batch, pixels = (8, 32) if small else (batch, pixels)
    overrides = {'method.train.view': 'none'} | network('resnet18', small)
    run = RandomRun('cross_entropy', dataset(small), overrides, (num_classes, 4000, 3))
    stage = run.stages['cross_entropy']
    update, shape = stage.updates[0], (pixels, pixels, 3)
    function = run.stepper(stage, update, batch, shape)
    seconds = median_seconds({'step': function}, 1 if small else 7)['step']
    return {
        'step': 'cross_entropy',
        'batch': batch,
        'pixels': pixels,
        'num_classes': num_classes,
        'devices': run.mesh.size,
        'step_ms': 1e3 * seconds,
        'images_per_second': batch / seconds,
        **compiled_memory_mb(run.compiled(stage, update, batch, shape)),
    }


def cost_m_step(
    *,
    small: bool,
    model: str = 'resnet18',
    num_classes: int = 14,
    per_class: int = 50_000,
) -> dict[str, Any]:
    """LMD's M-step: memory does not grow with R, the steps of a round do."""
    overrides = {
        **network(model, small),
        'method.icc.virtual_per_class': 40 if small else per_class,
        'method.icc.fdc': False,
    }
    run = RandomRun('lmd', dataset(small), overrides, (num_classes, 50 * num_classes, 3))
    stage = run.stages['icc']
    update, state, key = stage.updates[0], run.enter(stage), run.key('m_step')
    step: Any = make_step(update, run.graphdef, run.mesh, per_call=STEPS_PER_CALL)
    timed = min(update.steps, 3 if small else STEPS_PER_CALL)
    compiled = step.lower(state, NO_IMAGES, key, np.int32(0), np.int32(timed)).compile()

    def steps() -> Any:
        nonlocal state
        state, metrics = compiled(state, NO_IMAGES, key, np.int32(0), np.int32(timed))
        yield metrics

    seconds = median_seconds({'step': lambda: run_through(steps())}, 1 if small else 5)['step']
    return {
        'step': 'm_step',
        'num_classes': num_classes,
        'feature_dim': cast(Any, state).extra['round']['virtual'][0].shape[1],
        'virtual_per_class': run.config.method.icc.virtual_per_class,
        'steps_a_round': update.steps,
        'step_ms': 1e3 * seconds / timed,
        'round_seconds': seconds / timed * update.steps,
        **compiled_memory_mb(compiled),
    }
