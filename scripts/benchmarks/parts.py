"""The parts of scripts/accelerator.py: each yields its figures one by one, those that are worth most first."""

import dataclasses
from collections.abc import Callable

from .commands import Job, Rows, default_job, tests, versions


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of the measurement.

    Attributes:
      measure: yields the figures.
      limit: seconds that it may take.
      shown: the figures of the summary; the others are in the JSON.
      torch: whether it needs PyTorch.
    """

    measure: Callable[[Job], Rows]
    limit: float
    shown: tuple[str, ...]
    torch: bool = False


def beside_torch(job: Job) -> Rows:
    """Train steps of three networks in two batches, then the forward pass in the larger one."""
    from . import beside_torch

    models = ('resnet18',) if job.small else ('resnet50', 'convnext_tiny', 'resnet18')
    wanted = [('train', batch, model) for batch in (256, 64) for model in models]
    wanted += [('forward', 256, model) for model in models]
    for kind, batch, model in wanted[:1] if job.small else wanted:
        row = beside_torch.train_step(
            model, 224, small=job.small, batch=batch, turns=3, kinds=(kind,)
        )
        prefix = f'{kind}_'
        yield {'kind': kind} | {name.removeprefix(prefix): value for name, value in row.items()}


def stage_one(job: Job) -> Rows:
    """A step of LMD's first stage."""
    from . import beside_torch

    yield beside_torch.stage_one(small=job.small, pixels=224, batch=64, turns=3)


def em_round(job: Job) -> Rows:
    """A round of LMD's second stage over given features, narrow and wide."""
    from . import em

    for model in ('resnet18', 'resnet50')[: 1 if job.small else 2]:
        yield em.alone(model, 23, small=job.small, turns=2)


def roofline(job: Job) -> Rows:
    """A train step's operations and bytes against what the device was measured to do at most."""
    from . import device

    for model in ('resnet50', 'convnext_tiny')[: 1 if job.small else 2]:
        yield device.roofline(model, small=job.small, turns=3)


def small_sets(job: Job) -> Rows:
    """Small networks, whose steps may take the device less time than the host."""
    from . import loops

    wanted = [(model, pixels) for model in ('small_cnn', 'resnet18') for pixels in (28, 64)]
    wanted.append((loops.LINEAR, 1))
    for model, pixels in wanted[:1] if job.small else wanted:
        yield loops.share(model, pixels, small=job.small)


def files(job: Job) -> Rows:
    """Training from files over training on one batch."""
    from . import files

    yield files.reading('jpeg', small=job.small, epochs=4)


def depthwise(job: Job) -> Rows:
    """The whole of it at each width, then by parts."""
    from . import depthwise

    for part in ('step',) if job.small else depthwise.PARTS:
        for channels, side in depthwise.MAPS[-1:] if job.small else depthwise.MAPS:
            yield depthwise.compare(channels, side, part, small=job.small)


def profile(job: Job) -> Rows:
    """The kernels that take most of a step; a row a kernel."""
    from . import kernels

    for model in ('resnet50', 'convnext_tiny')[: 1 if job.small else 2]:
        whole = kernels.profile(model, small=job.small, keep=job.traces)
        shown = whole.pop('kernels')
        yield {**whole, 'kernel': 'all', 'ms': whole['kernels_ms'], 'share': 1.0}
        for kernel in shown:
            yield {'model': model, **kernel}


_TORCH = ('images_per_second', 'torch_images_per_second', 'ratio_to_fastest_torch')

# By priority; the limits are of one card with 16 cores, and together about eight minutes.
PARTS: dict[str, Part] = {
    'versions': Part(versions, 20, ('device', 'driver', 'jax', 'jaxlib', 'flax', 'torch', 'cores')),
    'default_job': Part(
        default_job, 75, ('compiled_before', 'seconds', 'balanced_accuracy', 'device')
    ),
    'beside_torch': Part(beside_torch, 170, ('kind', 'model', 'batch', *_TORCH), torch=True),
    'stage_one': Part(stage_one, 45, ('model', 'batch', *_TORCH), torch=True),
    'em_round': Part(
        em_round,
        35,
        ('feature_dim', 'estimate_seconds', 'm_step_seconds', 'fdc_seconds', 'round_seconds'),
    ),
    'roofline': Part(
        roofline,
        30,
        (
            'model',
            'step_ms',
            'ceiling_flops_per_second',
            'ceiling_bytes_per_second',
            'bound_by',
            'model_flop_utilisation',
            'bandwidth_utilisation',
        ),
    ),
    'small_sets': Part(
        small_sets,
        30,
        (
            'model',
            'pixels',
            'single_steps_per_second',
            'many_steps_per_second',
            'alone_steps_per_second',
            'single_device_share',
            'many_device_share',
        ),
    ),
    'files': Part(
        files,
        25,
        (
            'pipeline_images_per_second',
            'on_device_images_per_second',
            'from_files_over_on_device',
        ),
    ),
    'depthwise': Part(
        depthwise, 25, ('part', 'channels', 'side', 'library_ms', 'taps_ms', 'taps_over_library')
    ),
    'profile': Part(profile, 30, ('model', 'kernel', 'operation', 'ms', 'runs', 'share')),
    'tests': Part(tests, 60, ('tests', 'failures', 'errors', 'skipped', 'seconds', 'failed')),
}
