"""How time and memory are measured, and on what."""

import datetime
import os
import pathlib
import platform
import re
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax


def median_seconds(
    functions: Mapping[str, Callable[[], Any]], repeats: int, *, warm: bool = False
) -> dict[str, float]:
    """Returns each function's median time; they take turns, so that a change of load meets them alike.

    Args:
      functions: by name.
      repeats: turns of each.
      warm: each turn begins with a call that is not timed. A virtual machine's host takes back memory that was freed
        a while ago, which costs the next one who needs it more than a step takes, but not a training that goes on.
    """
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            if warm:
                function()
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def run_through(results: Iterator[Any]) -> None:
    """Waits for results one behind the newest, as the training loop reads its metrics."""
    late = None
    for now in results:
        jax.block_until_ready(late)
        late = now
    jax.block_until_ready(late)


def memory_mb() -> tuple[float, float]:
    """Returns the resident memory of this process, now and at its peak, in millions of bytes (Linux)."""
    pages = pathlib.Path('/proc/self/statm').read_text('ascii').split()[1]
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(pages) * resource.getpagesize() / 1e6, peak_kib * 1024 / 1e6


def compiled_memory_mb(compiled: Any) -> dict[str, float]:
    """Returns what a compiled function needs on the device: its arguments, and what it makes on the way."""
    stats = compiled.memory_analysis()
    return {
        'arguments_mb': stats.argument_size_in_bytes / 1e6,
        'temporary_mb': stats.temp_size_in_bytes / 1e6,
    }


def on_accelerator() -> bool:
    """Tells whether JAX's default device is something other than a CPU."""
    return jax.default_backend() != 'cpu'


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
