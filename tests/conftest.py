"""Every test runs on eight CPU devices, with warnings as errors and no silent rank promotion."""

import jax
import pytest

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)


@pytest.fixture(autouse=True)
def strict_shapes():
    """Shape mistakes that broadcasting would hide raise instead."""
    with jax.numpy_rank_promotion('raise'):
        yield
