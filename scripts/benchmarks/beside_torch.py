"""The same work here and in PyTorch, by turns, from the same weights and on the same images."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from ltjax.engine.stage import View
from ltjax.engine.step import make_forward
from ltjax.models.weights import to_torch

from .measure import median_seconds, on_accelerator
from .random_run import RandomRun, dataset

NUM_CLASSES = 8
KINDS = ('forward', 'train')


def train_step(
    model: str,
    pixels: int,
    *,
    small: bool,
    batch: int = 0,
    turns: int = 0,
    kinds: Sequence[str] = KINDS,
) -> dict[str, Any]:
    """A forward pass and a step of cross-entropy.

    Args:
      model: of `torch_models.MODELS`.
      pixels: of a side.
      small: tiny sizes.
      batch: images; 0: what suits the device.
      turns: of each side; 0: as many as make a steady median.
      kinds: of KINDS; PyTorch compiles each by itself, which takes most of a short measurement.
    """
    from . import torch_models, torch_steps  # PyTorch is an extra

    usual, pixels, steps, repeats = _sizes(pixels, small)
    batch, repeats = usual if small else batch or usual, turns or repeats
    overrides = {'method.train.view': 'none', 'method.train.optimizer.weight_decay': 5e-4}
    run = RandomRun('cross_entropy', dataset(False), _model(model) | overrides, _SIZES)
    state = run.new_model(run.key('model'))
    weights = to_torch(nnx.merge(run.graphdef, state, copy=True), 'torchvision')
    images, labels = run.random_batch(batch, (pixels, pixels, 3)).values()
    view = run.task.view('none')
    floats = np.moveaxis(np.asarray(view(run.key('view'), images)), 3, 1)
    pass_through = make_forward(run.graphdef, run.mesh, view)

    def forward() -> jax.Array:
        for _ in range(steps):
            _, logits = pass_through(state, images)
        return jax.block_until_ready(logits)

    stage = run.stages['cross_entropy']
    train = run.stepper(stage, stage.updates[0], batch, (pixels, pixels, 3), steps=steps)
    ours: dict[str, Callable[[], Any]] = {'forward': forward, 'train': train}
    theirs = {
        name: torch_steps.supervised(
            torch_models.load(model, weights, NUM_CLASSES),
            floats,
            np.asarray(labels),
            tuning,
            steps=steps,
        )
        for name, tuning in torch_steps.tunings(on_accelerator()).items()
    }
    some = next(iter(theirs.values()))
    results: dict[str, Any] = {'model': model, 'batch': batch, 'pixels': pixels}
    if 'forward' in kinds:
        difference = np.abs(ours['forward']() - some['forward']().float().cpu().numpy())
        results['largest_difference_of_logits'] = float(difference.max())
    else:
        losses = _loss(ours['train']()), _loss(some['train']())
        results['relative_difference_of_losses'] = abs(losses[0] / losses[1] - 1)
    for kind in kinds:
        functions = {'ltjax': ours[kind]} | {name: steps[kind] for name, steps in theirs.items()}
        results |= _compared(functions, repeats, steps, batch, f'{kind}_', warm=not turns)
    return results


def stage_one(*, small: bool, pixels: int = 96, batch: int = 32, turns: int = 0) -> dict[str, Any]:
    """A step of LMD's first stage; the weak view is the strong one, mirrored. `turns` as for `train_step`."""
    from . import torch_models, torch_steps

    usual, pixels, steps, repeats = _sizes(pixels, small)
    batch, repeats = usual if small else batch, turns or repeats
    overrides = {'method.rrl.start_epoch': 0, 'method.rrl.view': 'none'}
    run = RandomRun('lmd', dataset(False), _model('resnet18') | overrides, _SIZES)
    stage = run.stages['rrl']
    plain = run.task.view('none')
    views: dict[str, View] = {
        'strong': plain,
        'weak': lambda key, images: plain(key, images)[:, :, ::-1],
    }
    update = dataclasses.replace(stage.updates[0], views=views)
    ours = run.stepper(stage, update, batch, (pixels, pixels, 3), steps=steps)
    state = run.new_model(run.key('model'))
    weights = to_torch(nnx.merge(run.graphdef, state, copy=True), 'torchvision')
    images, labels = run.random_batch(batch, (pixels, pixels, 3)).values()
    floats = {
        name: np.moveaxis(np.asarray(view(run.key('view'), images)), 3, 1)
        for name, view in views.items()
    }
    theirs = {
        name: torch_steps.stage_one(
            torch_models.load('resnet18', weights, NUM_CLASSES),
            torch_models.load('resnet18', weights, NUM_CLASSES),
            floats,
            np.asarray(labels),
            tuning,
            weight=run.config.method.rrl.weight,
            learning_rate=run.config.method.rrl.optimizer.learning_rate,
            steps=steps,
        )
        for name, tuning in torch_steps.tunings(on_accelerator()).items()
    }
    functions = {'ltjax': ours} | theirs
    # Three losses of each side: from the second step on the teacher is no longer the student.
    losses = {name: [_loss(function()) for _ in range(3)] for name, function in functions.items()}
    some = losses[next(iter(theirs))]
    off = [abs(a / b - 1) for a, b in zip(losses['ltjax'], some, strict=True)]
    results = {
        'model': 'resnet18',
        'batch': batch,
        'pixels': pixels,
        'losses': losses['ltjax'],
        'relative_differences_of_losses': off,
    }
    return results | _compared(functions, repeats, steps, batch, '', warm=not turns)


_SIZES = (NUM_CLASSES, 1000, 3)


def _sizes(pixels: int, small: bool) -> tuple[int, int, int, int]:
    """Returns batch, pixels, steps a turn, and turns."""
    if small:
        return 4, 32, 1, 1
    if on_accelerator():
        return 256, pixels, 10, 9
    return 16, pixels, 1, 15 if pixels < 200 else 5


def _model(name: str) -> dict[str, Any]:
    return {'model.name': name} | ({'model.dtype': 'bfloat16'} if on_accelerator() else {})


def _loss(result: Any) -> float:
    return float(result['loss'] if isinstance(result, dict) else result)


def _compared(
    functions: dict[str, Any], repeats: int, steps: int, batch: int, prefix: str, *, warm: bool
) -> dict[str, float]:
    """Returns milliseconds and images a second of a step, and ours over the fastest of theirs."""
    measured = median_seconds(functions, repeats, warm=warm)
    seconds = {name: value / steps for name, value in measured.items()}
    fastest = min(value for name, value in seconds.items() if name != 'ltjax')
    return {
        **{f'{prefix}{name}_ms': 1e3 * value for name, value in seconds.items()},
        f'{prefix}images_per_second': batch / seconds['ltjax'],
        f'{prefix}torch_images_per_second': batch / fastest,
        f'{prefix}ratio_to_fastest_torch': seconds['ltjax'] / fastest,
    }
