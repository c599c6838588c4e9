"""Parts of scripts/accelerator.py that are other programs: what the machine says of itself, the default job, tests."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
Rows = Iterator[dict[str, Any]]

# 'false' where a process is not alone on the device; the default job is run as a user runs it.
PREALLOCATE = 'XLA_PYTHON_CLIENT_PREALLOCATE'

# The tests that a device can tell something about in a minute.
TESTS = (
    'tests/losses/test_gaussian.py',
    'tests/losses/test_distribution.py',
    'tests/engine/test_step.py',
    'tests/methods/test_lmd_statistics.py',
)
# The same with few of them.
SMALL_TESTS = ('tests/losses/test_gaussian.py',)


@dataclasses.dataclass(frozen=True)
class Job:
    """What a part is told.

    Attributes:
      small: tiny sizes.
      seconds: that the part may take.
      traces: folder for traces that are to be kept.
    """

    small: bool = False
    seconds: float = 60.0
    traces: pathlib.Path | None = None


def versions(job: Job) -> Rows:
    """The device, its driver, and the versions of what computes."""
    from . import measure

    packages = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'torch', 'triton')
    found = {name: _version(name) for name in packages}
    yield {**measure.machine(), **found, 'python': sys.version.split()[0], 'driver': _driver()}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return 'absent'


def _driver() -> str:
    if shutil.which('nvidia-smi') is None:
        return 'no nvidia-smi'
    query = '--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit'
    command = ['nvidia-smi', query, '--format=csv,noheader']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return ' '.join((done.stdout or done.stderr).split())


# The default job in miniature: one epoch, one round.
_SHORT = (
    '--config.method.rrl.epochs=1',
    '--config.method.rrl.start_epoch=0',
    '--config.method.icc.rounds=1',
    '--config.method.icc.virtual_per_class=40',
    '--config.num_bootstrap=10',
)
WARM_SECONDS = 40.0


def default_job(job: Job) -> Rows:
    """The README's first command from a cold process; then again, if that takes no longer than WARM_SECONDS."""
    import jax

    jax.config.update('jax_platforms', 'cpu')  # of this process: the device is the run's
    environment = {name: value for name, value in os.environ.items() if name != PREALLOCATE}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        run, cache = pathlib.Path(name, 'run'), pathlib.Path(name, 'cache')
        command = [sys.executable, '-m', 'ltjax.main', '--config=configs/lmd.py']
        command += [f'--workdir={run}', f'--compilation_cache={cache}']
        command += _SHORT if job.small else ()
        for compiled in ('nothing', 'all'):
            left = job.seconds - (time.monotonic() - started)
            if compiled == 'all' and (job.small or left < 10):
                return
            limit = min(WARM_SECONDS, left - 2) if compiled == 'all' else None
            begun = time.monotonic()
            try:
                subprocess.run(
                    command,
                    cwd=ROOT,
                    env=environment,
                    check=True,
                    timeout=limit,
                    stdout=sys.stderr,
                )
            except subprocess.TimeoutExpired:
                yield {'compiled_before': compiled, 'seconds': f'more than {limit:.0f}'}
                return
            yield {
                'compiled_before': compiled,
                'seconds': time.monotonic() - begun,
                **_finished(run),
                'cache_mb': sum(f.stat().st_size for f in cache.rglob('*') if f.is_file()) / 1e6,
            }
            shutil.rmtree(run)


def _finished(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns what a run reached and the devices that its last checkpoint says it was made on."""
    from ltjax.engine.checkpoint import Checkpoints

    checkpoints = Checkpoints(workdir / 'checkpoints', read_only=True)
    with contextlib.closing(checkpoints):
        progress = checkpoints.progress(checkpoints.numbers()[-1])
    results = json.loads((workdir / 'results.json').read_text('utf-8'))
    return {
        'balanced_accuracy': results['test']['metrics']['balanced_accuracy']['value'],
        'device': progress['provenance']['devices'],
        'rounds': len(progress['rows']),
    }


def tests(job: Job) -> Rows:
    """A quick lane of the tests on the device; skipped are those that need several.

    Raises:
      AssertionError: some failed.
    """
    import jax

    backend = jax.default_backend()
    platform = {'cpu': 'cpu', 'gpu': 'cuda,cpu'}.get(backend, f'{backend},cpu')
    # Products in float32, as on a CPU: a GPU would round what goes into them to TF32.
    environment = os.environ | {
        'LTJAX_TEST_PLATFORM': platform,
        'JAX_DEFAULT_MATMUL_PRECISION': 'highest',
    }
    with tempfile.TemporaryDirectory() as name:
        report = pathlib.Path(name, 'report.xml')
        # New versions may warn of what is no concern of the device's.
        command = [sys.executable, '-m', 'pytest', '-W', 'default', f'--junitxml={report}']
        command += ['-p', 'no:cacheprovider']
        if not job.small and _version('pytest-xdist') != 'absent':
            command += ['-n', str(max(1, min(6, (os.cpu_count() or 1) // 2)))]
        command += SMALL_TESTS if job.small else TESTS
        subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False)
        suite = ET.parse(report).getroot()[0]
    counts = {key: int(suite.get(key, 0)) for key in ('tests', 'failures', 'errors', 'skipped')}
    failed = [
        f'{case.get("classname")}::{case.get("name")}'
        for case in suite.iter('testcase')
        if case.find('failure') is not None or case.find('error') is not None
    ]
    reasons = sorted({str(skip.get('message')) for skip in suite.iter('skipped')})
    yield {**counts, 'seconds': float(suite.get('time', 0)), 'failed': failed, 'skips': reasons}
    if failed:
        raise AssertionError(f'{len(failed)} of {counts["tests"]} tests failed')
