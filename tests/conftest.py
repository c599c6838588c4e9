"""Every test runs on eight CPU devices, with warnings as errors and no silent rank promotion.

LTJAX_TEST_PLATFORM=cuda,cpu runs them on another device, as JAX_PLATFORMS names it, and leaves out those marked
`eight_devices` if there are fewer. They have tolerances of float32: on a GPU set JAX_DEFAULT_MATMUL_PRECISION=highest.
"""

import os

import jax
import pytest

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
