"""A cold start: what a process does before its first step is done, with no compiled function kept on disk."""

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
from flax import nnx

from ltjax.engine.step import make_init, make_step

from .random_run import RandomRun, dataset, network

# JAX's names of what it times itself.
_PARTS = {
    '/jax/core/compile/jaxpr_trace_duration': 'trace_s',
    '/jax/core/compile/jaxpr_to_mlir_module_duration': 'lower_s',
    '/jax/core/compile/backend_compile_duration': 'compile_s',
}

# The default job until its first round is validated and saved. Tells what JAX timed; the caller times the process.
_FIRST_ROUND = """
import collections, json, sys, time
import jax, ltjax
parts, changes = json.loads(sys.argv[2]), json.loads(sys.argv[3])
seconds, compiled = collections.Counter(), []
def heard(event, took, **more):
    seconds[parts.get(event, 'other')] += took
    if parts.get(event) == 'compile_s':
        compiled.append(took)
jax.monitoring.register_event_duration_secs_listener(heard)
started = time.perf_counter()
class Enough(Exception): pass
def enough(row): raise Enough
config = ltjax.get_config('lmd')
config.update_from_flattened_dict(changes)
try:
    ltjax.train(config, sys.argv[1], on_round=enough)
except Enough:
    pass
seconds.pop('other', None)
functions = {'functions': len(compiled), 'longest_s': sorted(compiled)[-3:]}
print(json.dumps({'within_train_s': time.perf_counter() - started, **seconds, **functions}))
"""


def first_round(*, small: bool) -> dict[str, Any]:
    """The default job from a cold process until its first round (19 steps) is done, validated and saved.

    `again_s` is the same in a second process, which finds on disk what the first has compiled.
    """
    changes = {'num_bootstrap': 10} if small else {}
    with tempfile.TemporaryDirectory() as name:
        environment = os.environ | {
            'JAX_COMPILATION_CACHE_DIR': f'{name}/xla',
            'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',  # as `python -m ltjax.main` does
        }
        said, seconds = [], []
        for run in ('cold', 'again'):
            told = [f'{name}/{run}', json.dumps(_PARTS), json.dumps(changes)]
            command = [sys.executable, '-c', _FIRST_ROUND, *told]
            begun = time.perf_counter()
            done = subprocess.run(
                command, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
            seconds.append(time.perf_counter() - begun)
            said.append(json.loads(done.stdout.splitlines()[-1]))
    return {'what': 'first round', 'process_s': seconds[0], **said[0], 'again_s': seconds[1]}


def compiling(model: str, *, small: bool, batch: int = 16) -> dict[str, Any]:
    """The network's initial values, and its step of cross-entropy at 224 pixels: traced, lowered and compiled."""
    jax.config.update('jax_enable_compilation_cache', False)
    pixels, batch = (32, 4) if small else (224, batch)
    overrides = {'method.train.view': 'none', **network(model, small)}
    run = RandomRun('cross_entropy', dataset(small), overrides, (8, 1000, 1 if small else 3))
    stage = run.stages['cross_entropy']
    update = stage.updates[0]
    inputs = run.abstract(stage, update, (batch, pixels, pixels, 1 if small else 3))
    step = make_step(update, run.graphdef, run.mesh)
    key = run.key('model')
    plainly = jax.jit(lambda key: nnx.state(run.create(key)))
    return {
        'what': model,
        'initial values': _seconds(make_init(run.create), key),
        'initial values, at full effort': _seconds(plainly, key),
        'step': _seconds(step, *inputs),
    }


def _seconds(function: Any, *arguments: Any) -> dict[str, float]:
    started = time.perf_counter()
    traced = function.trace(*arguments)
    after_trace = time.perf_counter()
    lowered = traced.lower()
    after_lower = time.perf_counter()
    lowered.compile()
    return {
        'trace_s': after_trace - started,
        'lower_s': after_lower - after_trace,
        'compile_s': time.perf_counter() - after_lower,
    }
