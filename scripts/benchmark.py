"""Measures speed and memory on this machine: medians after a warm-up, printed as JSON.

    python scripts/benchmark.py [--only virtual_features] [--out benchmark.json] [--profile DIR]
    python scripts/benchmark.py --tables benchmark.json

Cases:
  virtual_features: LMD's M-step, 14 classes, 512 features wide, 5 000 and 50 000 draws of each class:
    the draws alone, the whole step, and how far resident memory rises above what it was before the first draw.
  e_step_fdc: LMD's E-step, ResNet-18, 96 pixels, batch 128, with and without FDC by turns, and the
    estimate of the Gaussians before each round.
  train_step: small_cnn, 28x28 grey, batch 128: cross-entropy and LMD's first stage by turns.
  em_round: a whole round of LMD's second stage over 25 000 given features (K = 14, C = 512 and K = 23,
    C = 2048; R = 50 000): Gaussians, virtual features, distances; and memory.
  pipeline: a prepared set of 224 pixels, JPEG and PNG, read as one too large for memory: reading alone, a
    ResNet-18 on one batch that lies on the device, the same from files, and memory after each of ten epochs.
  roofline: operations and bytes of a train step against what the device was measured to do at most.
  cost: milliseconds and memory of a step against batch, pixels, K, C, R and devices, one varied at a time.
  memory: what a step of ResNet-50 and ConvNeXt-Base takes beside its state, plain, with remat, accumulated and in
    bfloat16, against what the backward pass needs; by the compiled step's own account, nothing runs.
  cold_start: with no compiled function on disk: the default job until its first round is done, and of networks at
    224 pixels the initial values and a step: seconds to trace, to lower, to compile.
  evaluation: test figures with 1000 resamples, and the report page, of ImageNet-LT's size (1000 classes of 50
    images) and iNaturalist 2018's (8142 of 3): seconds, user seconds, peak memory with the logits.
  beside_torch: ResNet-18, ResNet-50 and ConvNeXt-Tiny at 64, 96 and 224 pixels: a forward pass and a step of
    cross-entropy, ours and PyTorch's by turns, from the same weights and images.
  stage1_beside_torch: the same of a step of LMD's first stage, ResNet-18, 96 pixels, batch 32.
  em_round_beside_torch: the round of em_round (K = 14), PyTorch as LMD's authors use it, and well tuned.
  epoch_beside_torch: an epoch from the files of `pipeline`, and PyTorch's DataLoader over the same ones.

On a CPU PyTorch is timed in both memory formats; on an accelerator both sides compute in bfloat16, PyTorch compiled
and channels-last. The last four need `pip install -e '.[torch]'` and are left out without it, unless named by `--only`.

The steps are those that a training runs, made from the same configs; images and features are random.
Every measurement has a process of its own, because a peak of memory cannot be reset.
"""

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
from benchmarks import (
    beside_torch,
    cold,
    device,
    em,
    evaluation,
    files,
    measure,
    memory,
    steps,
    tables,
)

from ltjax import huge_pages
from ltjax.command import exits
from ltjax.errors import UserError, unknown
from ltjax.files import user_path

partial = functools.partial

# What a case measures, each in a process of its own; `--small` takes the first alone.
CASES: dict[str, list[Callable[..., dict[str, Any]]]] = {
    'virtual_features': [partial(steps.virtual_features, n) for n in (5_000, 50_000)],
    'e_step_fdc': [steps.e_step_fdc],
    'train_step': [steps.train_step],
    'em_round': [partial(em.alone, 'resnet18', 14), partial(em.alone, 'resnet50', 23)],
    'pipeline': [partial(files.reading, encoding) for encoding in ('jpeg', 'png')],
    'roofline': [
        partial(device.roofline, model) for model in ('resnet18', 'resnet50', 'convnext_tiny')
    ],
    'cost': [
        *(partial(device.cost_train, batch=batch) for batch in (8, 32, 128)),
        *(partial(device.cost_train, pixels=pixels) for pixels in (96, 128, 224)),
        *(partial(device.cost_train, num_classes=k) for k in (100, 1000)),
        *(partial(device.cost_train, devices=count) for count in (1, 2, 4, 8)),
        *(partial(device.cost_m_step, num_classes=k) for k in (14, 23, 100)),
        *(partial(device.cost_m_step, model=model) for model in ('convnext_base', 'resnet50')),
        *(partial(device.cost_m_step, per_class=r) for r in (5_000, 500_000)),
    ],
    'cold_start': [
        cold.first_round,
        *(
            partial(cold.compiling, model)
            for model in (
                'resnet18',
                'resnet50',
                'convnext_tiny',
                'efficientnet_lite0',
            )
        ),
    ],
    'memory': [
        partial(memory.of_step, model, variant)
        for model in ('resnet50', 'convnext_base')
        for variant in memory.VARIANTS
    ],
    'evaluation': [
        partial(evaluation.many_classes, num_classes, images)
        for num_classes, images in ((1000, 50), (8142, 3))
    ]
    + [partial(evaluation.with_groups, 100_000, 30)],
    'beside_torch': [
        partial(beside_torch.train_step, model, pixels)
        for model in ('resnet18', 'resnet50', 'convnext_tiny')
        for pixels in (64, 96, 224)
    ],
    'stage1_beside_torch': [beside_torch.stage_one],
    'em_round_beside_torch': [em.beside_torch],
    'epoch_beside_torch': [partial(files.epoch_beside_torch, 'jpeg')],
}


def job(case: str, number: int, *, small: bool, profile: pathlib.Path | None) -> list[Any]:
    """Returns the machine and the figures of one measurement, made in this process."""
    cache = str(pathlib.Path('~/.cache/ltjax/xla').expanduser())  # as `python -m ltjax.main` does
    jax.config.update('jax_compilation_cache_dir', cache)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
    with contextlib.ExitStack() as stack:
        if profile is not None:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # every call in Python would be most of the trace
            where = profile / f'{case}-{number}'
            stack.enter_context(jax.profiler.trace(where, profiler_options=options))
        figures = CASES[case][number](small=small)
    return [measure.machine(), figures]


def chosen(only: Sequence[str] | None) -> list[str]:
    """Returns the cases to measure: those asked for, or else all, where PyTorch is missing without its own."""
    names = [*(only or CASES)]
    for name in names:
        if name not in CASES:
            raise unknown('case', name, CASES)
    beside = [name for name in names if name.endswith('beside_torch')]
    if beside and importlib.util.find_spec('torch') is None:
        message = f"{', '.join(beside)}: PyTorch is missing: pip install -e '.[torch]'."
        if only:
            raise UserError(message)
        print(f'left out: {message}', file=sys.stderr)
        names = [name for name in names if name not in beside]
    return names


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', metavar='CASE', help='default: all')
    parser.add_argument('--out', type=user_path, help='also write the JSON here')
    parser.add_argument('--small', action='store_true', help='tiny sizes')
    parser.add_argument('--profile', type=user_path, metavar='DIR', help='write traces here')
    parser.add_argument('--tables', type=user_path, metavar='JSON', help='print it as tables')
    parser.add_argument('--job', type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(job(*arguments.job, small=arguments.small, profile=arguments.profile)))
        return
    if arguments.tables:
        print(tables.markdown(json.loads(arguments.tables.read_text('utf-8'))), end='')
        return
    names = chosen(arguments.only)
    options = ['--small'] if arguments.small else []
    options += ['--profile', str(arguments.profile)] if arguments.profile else []
    # JAX would take most of a GPU's memory, and PyTorch needs some.
    environment = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'} | os.environ
    results: dict[str, Any] = {'machine': {}, 'small': arguments.small, 'cases': {}}
    for name in names:
        for number in range(1 if arguments.small else len(CASES[name])):
            command = [sys.executable, __file__, '--job', json.dumps([name, number]), *options]
            done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=False)
            if done.returncode:
                sys.exit(done.returncode)  # the job has said why
            results['machine'], figures = json.loads(done.stdout)
            results['cases'].setdefault(name, []).append(figures)
            if arguments.out:  # after each: a long run that is stopped keeps what it has
                arguments.out.write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
    print(json.dumps(results, indent=1))


if __name__ == '__main__':
    huge_pages.restart()
    with exits():
        main()
