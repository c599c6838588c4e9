"""Every test runs on eight CPU devices, with warnings as errors and no silent rank promotion.

LTJAX_TEST_PLATFORM=cuda,cpu runs them on another device, as JAX_PLATFORMS names it, and leaves out those marked
`eight_devices` if there are fewer. They have tolerances of float32: on a GPU set JAX_DEFAULT_MATMUL_PRECISION=highest.

LTJAX_TEST_MEMORY=1 says at the end how much memory each process of pytest took at most.
"""

import os
import resource

# Threads of OpenMP that wait for a core wait busily: the map of a report's 24 images took 18 seconds of a processor.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import jax
import pytest

PEAKS: dict[str, float] = {}
PLATFORM = os.environ.get('LTJAX_TEST_PLATFORM', 'cpu')

jax.config.update('jax_platforms', PLATFORM)
if PLATFORM == 'cpu':
    jax.config.update('jax_num_cpu_devices', 8)


@pytest.fixture(autouse=True)
def enough_devices(request):
    """A test of how eight devices share the work says nothing on fewer."""
    marked = request.node.get_closest_marker('eight_devices')
    if PLATFORM != 'cpu' and marked and jax.device_count() < 8:
        pytest.skip(f'needs eight devices, and there are {jax.device_count()}')


@pytest.fixture(autouse=True)
def strict_shapes():
    """Shape mistakes that broadcasting would hide raise instead."""
    with jax.numpy_rank_promotion('raise'):
        yield


@pytest.fixture(autouse=True, scope='module')
def forgotten_afterwards():
    """A module's compiled functions go when it ends: those of all modules take several GB."""
    yield
    jax.clear_caches()


def pytest_sessionfinish(session):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if hasattr(session.config, 'workeroutput'):
        session.config.workeroutput['peak'] = peak
    else:
        PEAKS['pytest'] = peak


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Called for each worker of pytest-xdist."""
    PEAKS[node.gateway.id] = getattr(node, 'workeroutput', {}).get('peak', float('nan'))


def pytest_terminal_summary(terminalreporter):
    if os.environ.get('LTJAX_TEST_MEMORY'):
        each = ', '.join(f'{name} {peak:.1f} GB' for name, peak in sorted(PEAKS.items()))
        terminalreporter.write_line(f'peak memory: {each}')
