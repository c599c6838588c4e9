"""Every test runs on eight CPU devices, with warnings as errors and no silent rank promotion.

LTJAX_TEST_PLATFORM=cuda,cpu runs them on another device, as JAX_PLATFORMS names it, and leaves out those marked
`eight_devices` if there are fewer. They have tolerances of float32: on a GPU set JAX_DEFAULT_MATMUL_PRECISION=highest.

LTJAX_TEST_MEMORY=1 says at the end how much memory each process of pytest took at most, and in which modules it grew.
"""

import ctypes
import functools
import gc
import importlib.metadata
import os
import pathlib
import resource

# What the environment says holds for the processes that tests start, too.
# Threads of OpenMP that wait for a core wait busily: the map of a report's 24 images took 18 seconds of a processor.
os.environ.setdefault('OMP_NUM_THREADS', '1')
# These networks and losses compile ten times as long as they run: so compile without optimisation, each function in one
# piece, and, where XLA still has it, write loops in the older of its two ways, which takes half the time. It ends at
# flags that it does not know.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ.setdefault(
    'XLA_FLAGS',
    '--xla_cpu_parallel_codegen_split_count=1'
    + ' --xla_cpu_use_fusion_emitters=false'
    * importlib.metadata.version('jaxlib').startswith('0.10.'),
)

import jax
import pytest
from jax._src.interpreters import mlir  # its public name is not the one that JAX looks up

ENOUGH = 1.0  # GB
MORE = 0.3  # GB
MEMORY: dict[str, str] = {}
LEFT = [0.0]  # GB
RISES: list[tuple[float, str]] = []
PLATFORM = os.environ.get('LTJAX_TEST_PLATFORM', 'cpu')

# Compile the same once, also for the other worker and later sessions. What JAX and XLA are is part of the key; the
# folder can be deleted. Processes that tests start have it only where they are told: who is killed leaves half a file.
_CACHE = pathlib.Path(__file__).resolve().parent.parent / '.pytest_cache' / 'xla'
jax.config.update('jax_compilation_cache_dir', str(_CACHE))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
jax.config.update('jax_platforms', PLATFORM)
if PLATFORM == 'cpu':
    jax.config.update('jax_num_cpu_devices', 8)
# JAX keeps every program as MLIR beside what was compiled of it, each in a context of its own. That is 1.4 MB for a
# product of two arrays, and half of the time until it runs if it was compiled before. One context holds them all.
mlir.make_ir_context = functools.cache(mlir.make_ir_context)


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
def plain_figures(request):
    """Figures of reports are arranged and not drawn, which takes most of a tiny run, but where they are looked at."""
    if request.node.get_closest_marker('figures'):
        yield
        return
    import tiny

    with tiny.plain_figures():
        yield


@pytest.fixture(scope='module')
def traced_once():
    """For modules whose tests train one config again and again: see tiny.traced_once."""
    import tiny

    with tiny.traced_once():
        yield


def pytest_collection_modifyitems(items):
    """The files with slow tests come first: what is left at the end then is short, and both workers end together."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file is one worker's, so that what its tests share is made and compiled once."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # which would put the files of the most tests first
    return LoadFileScheduling(config, log)


def pytest_collection_finish():
    """What is there before the first test stays, so that looking for what can go need not look at it each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def peak_memory():
    """Returns how much memory this process took at most so far: GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def memory():
    """Returns how much memory this process has, where the system says so: GB."""
    try:
        pages = int(pathlib.Path('/proc/self/statm').read_text('ascii').split()[1])
    except OSError:
        return 0.0
    return pages * resource.getpagesize() / 1e9


def forget():
    """Lets go what is compiled, and what nobody needs any more; notes what is left."""
    jax.clear_caches()
    mlir.make_ir_context.cache_clear()
    gc.collect()
    # glibc keeps what is freed.
    if trim := getattr(ctypes.CDLL(None), 'malloc_trim', None):
        trim(0)
    LEFT[:] = [memory()]


@pytest.fixture(autouse=True, scope='module')
def rises(request):
    """Notes how much higher the peak is after a module."""
    before = peak_memory()
    yield
    RISES.append((peak_memory() - before, request.module.__name__))


@pytest.fixture(autouse=True)
def forgotten():
    """What is compiled goes as soon as there is much of it: that of all modules takes several GB.

    Until then later modules need not trace, lower and load the same again. Some memory never comes back: then only
    more than that counts, or every test would trace and compile all anew.
    """
    yield
    if memory() > max(ENOUGH, LEFT[0] + MORE):
        forget()


def pytest_sessionfinish(session):
    steepest = ', '.join(f'{rise:.1f} in {module}' for rise, module in sorted(RISES)[:-4:-1])
    said = f'{peak_memory():.1f} GB ({steepest})'
    if hasattr(session.config, 'workeroutput'):
        session.config.workeroutput['memory'] = said
    else:
        MEMORY['pytest'] = said


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Called for each worker of pytest-xdist."""
    MEMORY[node.gateway.id] = getattr(node, 'workeroutput', {}).get('memory', 'unknown')


def pytest_terminal_summary(terminalreporter):
    if os.environ.get('LTJAX_TEST_MEMORY'):
        for name, said in sorted(MEMORY.items()):
            terminalreporter.write_line(f'peak memory: {name} {said}')
