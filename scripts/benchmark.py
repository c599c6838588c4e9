"""Measures speed and memory on this machine: medians after a warm-up, printed as JSON.

    python scripts/benchmark.py                                  # everything, minutes on two cores
    python scripts/benchmark.py --only virtual_features --out benchmark.json

Cases:
  virtual_features: LMD's M-step, 14 classes, 512 features wide, 5 000 and 50 000 draws of each class:
    the draws alone, the whole step, and how far resident memory rises above what it was before the first draw.
  e_step_fdc: LMD's E-step, ResNet-18, 96 pixels, batch 128, with and without FDC by turns, and the
    estimate of the Gaussians before each round.
  train_step: small_cnn, 28x28 grey, batch 128: cross-entropy and LMD's first stage by turns.

The steps are those that a training runs, made from the same configs; images and features are random and
lie on the device. Every measurement has a process of its own, because a peak of memory cannot be reset.
"""

import argparse
import datetime
import functools
import importlib
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ltjax import __version__, losses, methods, sharding, train  # noqa: E402
from ltjax.engine.stage import Stage, Update  # noqa: E402
from ltjax.engine.state import TrainState, parameter_filter  # noqa: E402
from ltjax.engine.step import key_for, make_step  # noqa: E402
from ltjax.errors import UserError, unknown  # noqa: E402
from ltjax.methods.task import Task  # noqa: E402

PAPER, SMALL = (
    'isic2019_lt_r100',
    'fashion_mnist_lt_mini',
)  # whose configs have ResNet-18, small_cnn


class RandomRun:
    """What the hooks of a stage may ask of a training (`stage.Run`), answered with random features."""

    def __init__(
        self, file: str, dataset: str, overrides: dict[str, Any], counts: np.ndarray, channels: int
    ) -> None:
        config = importlib.import_module(f'configs.{file}').get_config(dataset)
        config.update_from_flattened_dict(overrides)
        self.seed = config.seed
        self.num_classes = len(counts)
        self.train_labels = np.repeat(np.arange(self.num_classes, dtype=np.int32), counts)
        self.mesh = sharding.make_mesh()
        self._root = jax.random.key(self.seed)
        self._create = lambda key: train.create_model(
            config, self.num_classes, channels, nnx.Rngs(key)
        )
        self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: self._create(self._root)))
        self._features: jax.Array | None = None
        task = Task(counts, (0.5,) * channels, (0.25,) * channels)
        recipe = methods.get(config.method.name).recipe(config.method, task)
        self.stages = {stage.name: stage for stage in recipe.stages}

    def key(self, purpose: str, index: int = 0) -> jax.Array:
        return jax.random.fold_in(key_for(self._root, purpose), index)

    def new_model(self, key: jax.Array) -> nnx.State:
        state = jax.jit(lambda key: nnx.state(self._create(key)))(key)
        return sharding.replicate(state, self.mesh)

    def new_optimizer_state(self, update: Update, model: nnx.State) -> Any:
        trainable, _ = nnx.split_state(model, parameter_filter(update.trains), ...)
        return sharding.replicate(update.optimizer.init(trainable), self.mesh)

    def train_features(self, state: TrainState) -> jax.Array:
        if self._features is None:
            width = nnx.to_pure_dict(state.model)['classifier']['kernel'].shape[0]
            features = jax.random.normal(self.key('features'), (len(self.train_labels), width))
            self._features = sharding.replicate(features, self.mesh)
        return self._features

    def enter(self, stage: Stage) -> TrainState:
        """Returns the state before the first step of a stage."""
        state = TrainState(self.new_model(self.key('model')), {}, {})
        if stage.prepare is not None:
            state = stage.prepare(state, self)
        optimizers = {u.name: self.new_optimizer_state(u, state.model) for u in stage.updates}
        state = sharding.replicate(state._replace(optimizers=optimizers), self.mesh)
        return state if stage.before_round is None else stage.before_round(state, self, 0)

    def stepper(self, stage: Stage, update: Update, size: int, shape: tuple) -> Callable[[], None]:
        """Returns a function that runs one step on a batch of random images and waits for it."""
        rng = np.random.default_rng(0)
        batch = {
            'image': rng.integers(0, 256, (size, *shape), np.uint8),
            'label': rng.integers(0, self.num_classes, size, np.int32),
            'index': np.arange(size, dtype=np.int32),
        }
        batch = jax.device_put(batch, sharding.batch_sharding(self.mesh))
        step, state = make_step(update, self.graphdef, self.mesh), self.enter(stage)
        key, number = self.key(update.name), 0

        def run_once() -> None:
            nonlocal state, number
            state, metrics = step(state, batch, key, np.int32(number))
            jax.block_until_ready((state, metrics))
            number += 1

        return run_once


def tail_counts(num_classes: int, num_images: int) -> np.ndarray:
    """Returns class sizes that fall geometrically to about a hundredth of the first."""
    share = 100.0 ** -np.linspace(0, 1, num_classes)
    counts = np.maximum(1, num_images * share / share.sum()).astype(np.int64)
    counts[0] += num_images - counts.sum()
    return counts


def median_seconds(functions: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
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


def peak_mb() -> float:
    """Returns the largest resident memory of this process so far, in millions of bytes."""
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def resident_mb() -> float:
    """Returns the resident memory of this process now; the peak so far where there is no /proc."""
    statm = pathlib.Path('/proc/self/statm')
    if not statm.exists():
        return peak_mb()
    return int(statm.read_text('ascii').split()[1]) * resource.getpagesize() / 1e6


def virtual_features(per_class: int, rows: int, repeats: int, small: bool) -> dict[str, Any]:
    """One round of the M-step: `per_class` draws of each class, `rows` of each class a step."""
    num_classes = 3 if small else 14
    overrides = {
        'method.icc.virtual_per_class': per_class,
        'method.icc.m_batch_size': num_classes * rows,
    }
    # The Gaussians of few images are as large as those of many and leave less memory behind.
    counts = tail_counts(num_classes, 50 * num_classes)
    run = RandomRun('lmd', SMALL if small else PAPER, overrides, counts, 3)
    stage = run.stages['icc']
    update, state, key = stage.updates[0], run.enter(stage), run.key('icc/m_step')
    # A step donates its state, and with it the arrays that the draws alone go on using.
    source = jax.tree.map(lambda array: array.copy(), state.extra['round']['virtual'])

    def draw_fn(key: jax.Array, step: jax.Array, source: Any) -> Any:
        key = key_for(jax.random.fold_in(key, step), 'loss')
        return losses.virtual_features(key, *source, rows)

    # Compiled ahead: the first call of a jitted function would compile and draw at once.
    draw = jax.jit(draw_fn).lower(key, np.int32(0), source).compile()
    step = make_step(update, run.graphdef, run.mesh).lower(state, {}, key, np.int32(0)).compile()
    jax.block_until_ready((state, source))
    before = resident_mb()

    def draw_once(number: int) -> Any:
        return draw(key, np.int32(number), source)

    def train_once(number: int) -> Any:
        nonlocal state
        state, metrics = step(state, {}, key, np.int32(number))
        return metrics

    def whole_round(once: Callable[[int], Any]) -> None:
        # As in the training loop, the host waits for a step while the next one runs.
        late = None
        for number in range(update.steps):
            now = once(number)
            jax.block_until_ready(late)
            late = now
        jax.block_until_ready(late)

    rounds = {'draw': draw_once, 'm_step': train_once}
    seconds = median_seconds(
        {name: functools.partial(whole_round, once) for name, once in rounds.items()}, repeats
    )
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
        'memory_growth_mb': max(0.0, peak_mb() - before),
    }


def e_step_fdc(pixels: int, batch: int, images: int, repeats: int, small: bool) -> dict[str, Any]:
    """The E-step with and without FDC, and the estimate of the Gaussians that it needs once a round."""
    counts = tail_counts(3 if small else 14, images)
    steps = {}
    for name, fdc in (('without_fdc', False), ('with_fdc', True)):
        overrides = {'fdc': fdc, 'e_batch_size': batch, 'e_view': 'none'}
        overrides = {f'method.icc.{key}': value for key, value in overrides.items()}
        run = RandomRun('lmd', SMALL if small else PAPER, overrides, counts, 3)
        stage = run.stages['icc']
        steps[name] = run.stepper(stage, stage.updates[1], batch, (pixels, pixels, 3))
    seconds = median_seconds(steps, repeats)
    steps_peak = peak_mb()

    # The run with FDC, the last one above.
    state, before_round = run.enter(stage), stage.before_round
    if before_round is None:
        raise ValueError('stage icc has no estimate before its rounds')

    def estimate() -> None:
        jax.block_until_ready(before_round(state, run, 1))

    return {
        'num_classes': run.num_classes,
        'feature_dim': state.extra['gaussians'].mean.shape[1],
        'batch': batch,
        'pixels': pixels,
        'with_fdc_ms': 1e3 * seconds['with_fdc'],
        'without_fdc_ms': 1e3 * seconds['without_fdc'],
        'ratio': seconds['with_fdc'] / seconds['without_fdc'],
        'memory_peak_mb': steps_peak,
        'estimate_images': images,
        'estimate_seconds': median_seconds({'': estimate}, min(3, repeats))[''],
    }


def train_step(pixels: int, batch: int, repeats: int) -> dict[str, Any]:
    """A step of cross-entropy and one of LMD's first stage, augmentation included."""
    steps = {}
    for config, name in (('cross_entropy', 'cross_entropy'), ('lmd', 'rrl')):
        run = RandomRun(config, SMALL, {}, tail_counts(10, 1000), 1)
        stage = run.stages[name]
        steps[name] = run.stepper(stage, stage.updates[0], batch, (pixels, pixels, 1))
    results: dict[str, Any] = {'batch': batch, 'pixels': pixels}
    for name, seconds in median_seconds(steps, repeats).items():
        results[f'{name}_ms'] = 1e3 * seconds
        results[f'{name}_images_per_second'] = batch / seconds
    return results | {'memory_peak_mb': peak_mb()}


Settings = list[dict[str, Any]]
Case = Callable[..., dict[str, Any]]

# Each case with its settings, first in full, then small: one process a setting.
CASES: dict[str, tuple[Case, Settings, Settings]] = {
    'virtual_features': (
        virtual_features,
        [{'per_class': n, 'rows': 64, 'repeats': 3, 'small': False} for n in (5_000, 50_000)],
        [{'per_class': n, 'rows': 4, 'repeats': 1, 'small': True} for n in (8, 16)],
    ),
    'e_step_fdc': (
        e_step_fdc,
        [{'pixels': 96, 'batch': 128, 'images': 25_000, 'repeats': 9, 'small': False}],
        [{'pixels': 8, 'batch': 8, 'images': 100, 'repeats': 1, 'small': True}],
    ),
    'train_step': (
        train_step,
        [{'pixels': 28, 'batch': 128, 'repeats': 30}],
        [{'pixels': 8, 'batch': 8, 'repeats': 1}],
    ),
}


def machine() -> dict[str, Any]:
    """Returns what the figures depend on besides the code."""
    info = pathlib.Path('/proc/cpuinfo')
    lines = info.read_text('utf-8').splitlines() if info.exists() else []
    models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return {
        'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'cpu': models[0] if models else platform.processor() or platform.machine(),
        'cores': os.cpu_count(),
        'load_average': os.getloadavg()[0],
        'device': jax.devices()[0].device_kind,
        'devices': jax.device_count(),
        'jax': jax.__version__,
        'ltjax': __version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', default=[*CASES], metavar='CASE')
    parser.add_argument('--out', type=pathlib.Path, help='also write the JSON here')
    parser.add_argument('--small', action='store_true', help='tiny sizes, to try the script out')
    parser.add_argument('--job', type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        run_job(*arguments.job)
        return
    for name in arguments.only:
        if name not in CASES:
            raise unknown('case', name, CASES)
    results: dict[str, Any] = {'machine': {}, 'small': arguments.small, 'cases': {}}
    for name in arguments.only:
        _, full, small = CASES[name]
        for settings in small if arguments.small else full:
            job = [sys.executable, __file__, '--job', json.dumps([name, settings])]
            done = subprocess.run(job, stdout=subprocess.PIPE, check=True)
            results['machine'], figures = json.loads(done.stdout)
            results['cases'].setdefault(name, []).append(figures)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
    print(json.dumps(results, indent=1))


def run_job(case: str, settings: dict[str, Any]) -> None:
    """Measures one setting of a case; prints the machine and the figures. JAX starts here and nowhere else."""
    cache = pathlib.Path('~/.cache/ltjax/xla').expanduser()  # as `python -m ltjax.main` does
    jax.config.update('jax_compilation_cache_dir', str(cache))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
    here = machine()
    print(json.dumps([here, CASES[case][0](**settings)]))


if __name__ == '__main__':
    try:
        main()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
