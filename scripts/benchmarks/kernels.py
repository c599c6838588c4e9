"""Where the device's time goes: a trace of some steps, and the sum of each kernel's time in it."""

import collections
import gzip
import json
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from .device import step_of
from .measure import on_accelerator

STEPS = 5
SHOWN = 15


def profile(model: str, *, small: bool, keep: pathlib.Path | None = None) -> dict[str, Any]:
    """A train step's kernels, those that took most of the device's time first.

    Args:
      model: by name.
      small: tiny sizes.
      keep: folder that the trace is written to; None: it is deleted.
    """
    run, batch, pixels = step_of(model, small)
    stage = run.stages['cross_entropy']
    steps = 1 if small else STEPS
    step = run.stepper(stage, stage.updates[0], batch, (pixels, pixels, 3), steps=steps)
    events = traced(step, keep and keep / model)
    found = by_kernel(events)
    busy = sum(kernel['ms'] for kernel in found)
    first, last = min(e['ts'] for e in events), max(e['ts'] + e['dur'] for e in events)
    return {
        'model': model,
        'batch': batch,
        'pixels': pixels,
        'steps': steps,
        'step_ms': (last - first) / 1e3 / steps,
        'kernels_ms': busy / steps,
        'kernels': [
            {**kernel, 'ms': kernel['ms'] / steps, 'share': kernel['ms'] / busy}
            for kernel in found[:SHOWN]
        ],
        'kernels_not_shown': len(found[SHOWN:]),
    }


def traced(function: Callable[[], Any], folder: pathlib.Path | None = None) -> list[dict[str, Any]]:
    """Returns what ran on the device during a call of `function`, which is called once before.

    Args:
      function: waits for what it started.
      folder: of the trace; None: it is deleted.
    """
    function()
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # every call in Python would be most of the trace
    with tempfile.TemporaryDirectory() as name:
        where = folder or pathlib.Path(name)
        with jax.profiler.trace(where, profiler_options=options):
            function()
        newest = max(where.glob('plugins/profile/*/*.trace.json.gz'))
        trace = json.loads(gzip.decompress(newest.read_bytes()))
    return device_events(trace, accelerator=on_accelerator())


def device_events(trace: Mapping[str, Any], *, accelerator: bool) -> list[dict[str, Any]]:
    """Returns the events of a trace (Chrome's format) that are work of the device, times in microseconds.

    On a GPU these are what its streams ran: lines such as XLA's modules and operations tell the same again. On a CPU
    they are those that name an operation of XLA's.
    """
    processes, threads = {}, {}
    for event in trace['traceEvents']:
        if event.get('name') == 'process_name':
            processes[event['pid']] = event['args']['name']
        elif event.get('name') == 'thread_name':
            threads[event['pid'], event['tid']] = event['args']['name']

    def counts(event: Mapping[str, Any]) -> bool:
        if event.get('ph') != 'X':
            return False
        if not accelerator:
            return 'hlo_op' in event.get('args', {})
        line = threads.get((event['pid'], event['tid']), '')
        return '/device:' in processes.get(event['pid'], '') and line.startswith('Stream')

    events = [event for event in trace['traceEvents'] if counts(event)]
    if not events:
        lines = sorted({f'{processes.get(pid)}: {line}' for (pid, _), line in threads.items()})
        raise ValueError(f'the trace has no work of the device, only {"; ".join(lines)}')
    return events


def by_kernel(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns name, sum of milliseconds, number of runs and one operation of each kernel, the longest sum first."""
    sums: dict[str, float] = collections.defaultdict(float)
    runs: collections.Counter[str] = collections.Counter()
    operations: dict[str, str] = {}
    for event in events:
        name = event['name']
        sums[name] += event['dur'] / 1e3
        runs[name] += 1
        operations.setdefault(name, str(event.get('args', {}).get('hlo_op', '')))
    return [
        {'kernel': name, 'ms': sums[name], 'runs': runs[name], 'operation': operations[name]}
        for name in sorted(sums, key=lambda name: -sums[name])
    ]
