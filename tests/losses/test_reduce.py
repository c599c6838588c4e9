import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses.reduce import mean, total, weighted_batch_mean, weighted_mean

VALUES = jnp.array([1.0, 2.0, 3.0, 10.0])
WHERE = jnp.array([True, False, True, False])


def test_values():
    assert float(total(VALUES)) == 16
    assert float(mean(VALUES)) == 4
    assert float(total(VALUES, WHERE)) == 4
    assert float(mean(VALUES, WHERE)) == 2
    assert float(weighted_mean(VALUES, jnp.array([1, 0, 3, 0]))) == 2.5


@pytest.mark.parametrize('reduce', [mean, total, weighted_mean])
def test_nothing_that_counts_is_zero_with_zero_gradient(reduce):
    value, gradient = jax.value_and_grad(reduce)(VALUES, jnp.zeros(4, bool))
    assert float(value) == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize('reduce', [mean, total, weighted_mean])
def test_a_masked_nan_does_not_count(reduce):
    values = jnp.array([1.0, jnp.nan, 3.0, jnp.inf])
    value, gradient = jax.value_and_grad(reduce)(values, WHERE)
    assert float(value) in (2, 4)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[1::2], 0)


def test_an_empty_batch_has_mean_zero():
    assert float(mean(jnp.zeros(0))) == 0


def test_bfloat16_is_summed_in_float32():
    values = jnp.ones(1000, jnp.bfloat16)
    assert total(values).dtype == jnp.float32
    assert float(total(values)) == 1000


def test_a_weighted_batch_mean_divides_by_the_examples_that_count():
    weights = jnp.array([0.5, 1.0, 3.0, 1.0])
    assert float(weighted_batch_mean(VALUES, weights)) == (0.5 + 2 + 9 + 10) / 4
    masked = VALUES.at[1::2].set(jnp.nan)
    assert float(weighted_batch_mean(masked, weights.at[1].set(jnp.nan), WHERE)) == 9.5 / 2
    assert float(weighted_batch_mean(VALUES, weights, jnp.zeros(4, bool))) == 0
