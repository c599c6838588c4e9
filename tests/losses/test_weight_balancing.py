import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ltjax.losses import weight_balancing

project = jax.jit(weight_balancing.project_max_norm)
kernels = hnp.arrays(
    np.float32, (4, 3), elements=st.floats(-100, 100, width=32, allow_subnormal=False)
)


def norms(kernel):
    return np.linalg.norm(kernel, axis=0)


def cap_of(kernel, threshold):
    return np.asarray(weight_balancing.max_norm_cap(kernel, threshold=threshold))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(kernel=kernels, threshold=st.floats(0, 1))
def test_projection_shortens_the_long_and_leaves_the_others(kernel, threshold):
    cap = cap_of(kernel, threshold)
    projected = np.asarray(project(kernel, cap))
    assert norms(kernel).min() * (1 - 1e-5) <= cap <= norms(kernel).max() * (1 + 1e-5)
    factor = np.minimum(1, float(cap) / np.maximum(norms(kernel), 1e-30))
    np.testing.assert_allclose(projected, kernel * factor, rtol=1e-5, atol=1e-5)
    kept = norms(kernel) <= float(cap) * (1 - 1e-5)
    np.testing.assert_array_equal(projected[:, kept], kernel[:, kept])


def test_limits_of_the_threshold():
    kernel = jnp.array([[3.0, 0.0, 6.0], [4.0, 1.0, 8.0]])
    assert [float(weight_balancing.max_norm_cap(kernel, threshold=t)) for t in (0, 1)] == [1, 10]
    np.testing.assert_array_equal(weight_balancing.project_max_norm(kernel, 10.0), kernel)
    np.testing.assert_allclose(norms(weight_balancing.project_max_norm(kernel, 1.0)), 1, rtol=1e-6)
    np.testing.assert_array_equal(weight_balancing.project_max_norm(kernel, 0.0), 0 * kernel)


def test_axis_order_and_dtype():
    kernel = jnp.array([[3.0, 0.0], [4.0, 1.0]])
    by_column = weight_balancing.project_max_norm(kernel, 2.0, order=1)
    np.testing.assert_allclose(np.abs(by_column).sum(axis=0), [2, 1], rtol=1e-6)
    np.testing.assert_array_equal(
        weight_balancing.project_max_norm(kernel.T, 2.0, order=1, axis=1), by_column.T
    )
    narrow = project(kernel.astype(jnp.bfloat16), 2.5)
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_array_equal(narrow.astype(jnp.float32), [[1.5, 0.0], [2.0, 1.0]])


def test_threshold_out_of_range_is_refused():
    with pytest.raises(ValueError, match='threshold'):
        weight_balancing.max_norm_cap(jnp.ones([2, 2]), threshold=1.5)
