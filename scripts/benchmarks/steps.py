"""Steps of ltjax alone: LMD's draws and M-step, its E-step, and the first stage beside cross-entropy."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import jax
import numpy as np

from ltjax import losses
from ltjax.engine.rounds import STEPS_PER_CALL
from ltjax.engine.step import key_for, make_step

from .measure import median_seconds, memory_mb, run_through
from .random_run import NO_IMAGES, RandomRun, calls, dataset


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
    step: Any = make_step(update, run.graphdef, run.mesh, per_call=STEPS_PER_CALL)
    compiled = step.lower(state, NO_IMAGES, key, np.int32(0), np.int32(1)).compile()
    jax.block_until_ready((state, source))
    before, _ = memory_mb()

    def draws() -> Iterator[Any]:
        for number in range(update.steps):
            yield draw(key, np.int32(number), source)

    def m_steps() -> Iterator[Any]:
        nonlocal state
        for number, count in calls(update.steps):
            state, metrics = compiled(state, NO_IMAGES, key, np.int32(number), np.int32(count))
            yield metrics

    rounds = {'draw': lambda: run_through(draws()), 'm_step': lambda: run_through(m_steps())}
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
    seconds = median_seconds(steps, repeats, warm=True)
    _, peak = memory_mb()
    # Of the run with FDC, the last one above.
    state, before_round = run.enter(stage), cast(Callable[..., Any], stage.before_round)
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
    for name, seconds in median_seconds(steps, repeats, warm=True).items():
        results[f'{name}_ms'] = 1e3 * seconds
        results[f'{name}_images_per_second'] = batch / seconds
    return results | {'memory_peak_mb': memory_mb()[1]}
