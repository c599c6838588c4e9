"""Measures speed and memory on this machine: medians after a warm-up, printed as JSON.

    python scripts/benchmark.py [--only virtual_features] [--out benchmark.json]  # a few minutes

Cases:
  virtual_features: LMD's M-step, 14 classes, 512 features wide, 5 000 and 50 000 draws of each class:
    the draws alone, the whole step, and how far resident memory rises above what it was before the first draw.
  e_step_fdc: LMD's E-step, ResNet-18, 96 pixels, batch 128, with and without FDC by turns, and the
    estimate of the Gaussians before each round.
  train_step: small_cnn, 28x28 grey, batch 128: cross-entropy and LMD's first stage by turns.
  beside_torch: ResNet-18 and ConvNeXt-Tiny, batch 16, at 64, 96 and 224 pixels: a forward pass and a step of
    cross-entropy, ours and PyTorch's (in both memory formats) by turns, from the same weights and images. Needs
    `pip install -e '.[torch]'`; without PyTorch it is left out, unless named by `--only`.

The steps are those that a training runs, made from the same configs; images and features are random and
lie on the device. Every measurement has a process of its own, because a peak of memory cannot be reset.
"""

import argparse
import datetime
import functools
import importlib.util
import json
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import jax
import numpy as np
from flax import nnx
from random_run import RandomRun

from ltjax import losses
from ltjax.engine.step import key_for, make_forward, make_step
from ltjax.errors import UserError, unknown
from ltjax.models.weights import to_torch


def dataset(small: bool) -> str:
    """Returns a data set with a small network (28 pixels), or one with a ResNet-18."""
    return 'fashion_mnist_lt_mini' if small else 'isic2019_lt_r100'


def median_seconds(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Returns each function's median time; they take turns, so that a change of load meets them alike."""
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def memory_mb() -> tuple[float, float]:
    """Returns the resident memory of this process, now and at its peak, in millions of bytes (Linux)."""
    pages = pathlib.Path('/proc/self/statm').read_text('ascii').split()[1]
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(pages) * resource.getpagesize() / 1e6, peak_kib * 1024 / 1e6


def virtual_features(per_class: int, *, small: bool) -> dict[str, Any]:
    """One round of the M-step: `per_class` draws of each class, `rows` of each class a step."""
    num_classes, rows, repeats = (3, per_class // 2, 1) if small else (14, 64, 3)
    overrides = {
        'method.icc.virtual_per_class': per_class,
        'method.icc.m_batch_size': num_classes * rows,
    }
    # The Gaussians of few images are as large as those of many and leave less memory behind.
    run = RandomRun('lmd', dataset(small), overrides, (num_classes, 50 * num_classes, 3))
    stage, key = run.stages['icc'], run.key('m_step')
    update, state = stage.updates[0], run.enter(stage)
    # A step donates its state, and with it the arrays that the draws alone go on using.
    source = jax.tree.map(lambda array: array.copy(), state.extra['round']['virtual'])

    def draw_fn(key: jax.Array, step: jax.Array, source: Any) -> Any:
        key = key_for(jax.random.fold_in(key, step), 'loss')
        return losses.virtual_features(key, source[0], source[1], rows)

    # Compiled ahead: the first call of a jitted function would compile and draw at once.
    draw = jax.jit(draw_fn).lower(key, np.int32(0), source).compile()
    step: Any = make_step(update, run.graphdef, run.mesh)
    step = step.lower(state, {}, key, np.int32(0)).compile()
    jax.block_until_ready((state, source))
    before, _ = memory_mb()

    def draws() -> Iterator[Any]:
        for number in range(update.steps):
            yield draw(key, np.int32(number), source)

    def m_steps() -> Iterator[Any]:
        nonlocal state
        for number in range(update.steps):
            state, metrics = step(state, {}, key, np.int32(number))
            yield metrics

    def finish(results: Iterator[Any]) -> None:
        late = None
        for now in results:
            jax.block_until_ready(late)  # of the step before, as in the training loop
            late = now
        jax.block_until_ready(late)

    rounds = {'draw': lambda: finish(draws()), 'm_step': lambda: finish(m_steps())}
    seconds = median_seconds(rounds, repeats)
    drawn = num_classes * rows * update.steps
    return {
        'num_classes': num_classes,
        'feature_dim': source[0].shape[1],
        'per_class': per_class,
        'rows_per_class_and_step': rows,
        'draw_features_per_second': drawn / seconds['draw'],
        'm_step_features_per_second': drawn / seconds['m_step'],
        'draw_ms': 1e3 * seconds['draw'] / update.steps,
        'm_step_ms': 1e3 * seconds['m_step'] / update.steps,
        'memory_before_mb': before,
        'memory_growth_mb': max(0.0, memory_mb()[1] - before),
    }


def e_step_fdc(*, small: bool) -> dict[str, Any]:
    """The E-step with and without FDC, and the estimate of the Gaussians that it needs once a round."""
    num_classes, images = (3, 100) if small else (14, 25_000)
    batch, pixels, repeats = (8, 8, 1) if small else (128, 96, 9)
    steps = {}
    for name, fdc in (('without_fdc', False), ('with_fdc', True)):
        overrides = {
            'method.icc.fdc': fdc,
            'method.icc.e_batch_size': batch,
            'method.icc.e_view': 'none',
        }
        run = RandomRun('lmd', dataset(small), overrides, (num_classes, images, 3))
        stage = run.stages['icc']
        steps[name] = run.stepper(stage, stage.updates[1], batch, (pixels, pixels, 3))
    seconds = median_seconds(steps, repeats)
    _, peak = memory_mb()
    # Of the run with FDC, the last one above.
    state, before_round = run.enter(stage), cast(Callable, stage.before_round)
    estimate = {'estimate': lambda: jax.block_until_ready(before_round(state, run, 1))}
    return {
        'num_classes': num_classes,
        'feature_dim': state.extra['gaussians'].mean.shape[1],
        'batch': batch,
        'pixels': pixels,
        'with_fdc_ms': 1e3 * seconds['with_fdc'],
        'without_fdc_ms': 1e3 * seconds['without_fdc'],
        'ratio': seconds['with_fdc'] / seconds['without_fdc'],
        'memory_peak_mb': peak,
        'estimate_images': images,
        'estimate_seconds': median_seconds(estimate, min(3, repeats))['estimate'],
    }


def train_step(*, small: bool) -> dict[str, Any]:
    """A step of cross-entropy and one of LMD's first stage, augmentation included."""
    batch, pixels, repeats = (8, 8, 1) if small else (128, 28, 30)
    steps = {}
    for config, name in (('cross_entropy', 'cross_entropy'), ('lmd', 'rrl')):
        run = RandomRun(config, dataset(True), {}, (10, 1000, 1))
        stage = run.stages[name]
        steps[name] = run.stepper(stage, stage.updates[0], batch, (pixels, pixels, 1))
    results: dict[str, Any] = {'batch': batch, 'pixels': pixels}
    for name, seconds in median_seconds(steps, repeats).items():
        results[f'{name}_ms'] = 1e3 * seconds
        results[f'{name}_images_per_second'] = batch / seconds
    return results | {'memory_peak_mb': memory_mb()[1]}


def beside_torch(model: str, pixels: int, *, small: bool) -> dict[str, Any]:
    """A forward pass and a train step, ours and PyTorch's, from the same weights and images."""
    import torch_models  # PyTorch is an extra

    batch, pixels, num_classes = (4, 32, 8) if small else (16, pixels, 8)
    repeats = 1 if small else (15 if pixels < 200 else 5)
    overrides = {
        'model.name': model,
        'method.train.view': 'none',
        'method.train.optimizer.weight_decay': 5e-4,
    }
    run = RandomRun('cross_entropy', dataset(False), overrides, (num_classes, 1000, 3))
    state = run.new_model(run.key('model'))
    weights = to_torch(nnx.merge(run.graphdef, state, copy=True), 'torchvision')
    images, labels = run.random_batch(batch, (pixels, pixels, 3)).values()
    view = run.task.view('none')
    floats = np.moveaxis(np.asarray(view(run.key('view'), images)), 3, 1)
    pass_through, ours = make_forward(run.graphdef, run.mesh, view), {}
    ours['forward'] = lambda: jax.block_until_ready(pass_through(state, images)[1])
    stage = run.stages['cross_entropy']
    ours['train'] = run.stepper(stage, stage.updates[0], batch, (pixels, pixels, 3))
    theirs = {
        name: torch_models.steps(
            model, weights, num_classes, floats, np.asarray(labels), channels_last=last
        )
        for name, last in (('torch', False), ('torch_channels_last', True))
    }
    difference = np.abs(ours['forward']() - theirs['torch']['forward']().numpy())
    results: dict[str, Any] = {'model': model, 'batch': batch, 'pixels': pixels}
    results['largest_difference_of_logits'] = float(difference.max())
    for kind in ('forward', 'train'):
        functions = {'ltjax': ours[kind]} | {name: steps[kind] for name, steps in theirs.items()}
        seconds = median_seconds(functions, repeats)
        results |= {f'{kind}_{name}_ms': 1e3 * value for name, value in seconds.items()}
        fastest = min(seconds[name] for name in theirs)
        results[f'{kind}_ratio_to_fastest_torch'] = seconds['ltjax'] / fastest
    return results


# What a case measures, each in a process of its own; `--small` takes the first alone.
CASES: dict[str, list[Callable[..., dict[str, Any]]]] = {
    'virtual_features': [functools.partial(virtual_features, n) for n in (5_000, 50_000)],
    'e_step_fdc': [e_step_fdc],
    'train_step': [train_step],
    'beside_torch': [
        functools.partial(beside_torch, model, pixels)
        for model in ('resnet18', 'convnext_tiny')
        for pixels in (64, 96, 224)
    ],
}


def machine() -> dict[str, Any]:
    """Returns what the figures depend on besides the code (Linux)."""
    cpu = re.search(r'model name\s*: (.+)', pathlib.Path('/proc/cpuinfo').read_text('utf-8'))
    return {
        'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'cpu': cpu[1] if cpu else platform.machine(),
        'cores': os.cpu_count(),
        'load_average': os.getloadavg()[0],
        'device': jax.devices()[0].device_kind,
        'devices': jax.device_count(),
        'jax': jax.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', metavar='CASE', help='default: all')
    parser.add_argument('--out', type=pathlib.Path, help='also write the JSON here')
    parser.add_argument('--small', action='store_true', help='tiny sizes')
    parser.add_argument('--job', type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        case, number = arguments.job
        cache = os.path.expanduser('~/.cache/ltjax/xla')  # as `python -m ltjax.main` does
        jax.config.update('jax_compilation_cache_dir', cache)
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
        print(json.dumps([machine(), CASES[case][number](small=arguments.small)]))
        return
    names = arguments.only or [*CASES]
    for name in names:
        if name not in CASES:
            raise unknown('case', name, CASES)
    if 'beside_torch' in names and importlib.util.find_spec('torch') is None:
        message = "beside_torch needs PyTorch: pip install -e '.[torch]'."
        if arguments.only:
            raise UserError(message)
        print(f'left out: {message}', file=sys.stderr)
        names.remove('beside_torch')
    results: dict[str, Any] = {'machine': {}, 'small': arguments.small, 'cases': {}}
    for name in names:
        for number in range(1 if arguments.small else len(CASES[name])):
            command = [sys.executable, __file__, '--job', json.dumps([name, number])]
            command += ['--small'] if arguments.small else []
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            results['machine'], figures = json.loads(done.stdout)
            results['cases'].setdefault(name, []).append(figures)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
    print(json.dumps(results, indent=1))


if __name__ == '__main__':
    try:
        main()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
