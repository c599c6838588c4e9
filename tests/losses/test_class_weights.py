import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltjax.losses import class_weights

counts_with_images = st.lists(st.integers(0, 10**6), min_size=1, max_size=30).filter(any)
betas = st.sampled_from([0.0, 0.5, 0.99, 0.9999, 0.999999])
examples = settings(max_examples=25, deadline=None, derandomize=True)


@examples
@given(counts=counts_with_images, beta=betas)
def test_weights_have_mean_one_and_fall_with_the_count(counts, beta):
    present = np.array(counts) > 0
    for weights in (
        class_weights.effective_number_weights(counts, beta=beta),
        class_weights.inverse_frequency_weights(counts),
    ):
        assert weights.dtype == np.float64
        np.testing.assert_allclose(weights[present].mean(), 1, rtol=1e-12)
        np.testing.assert_array_equal(weights[~present], 0)
        by_count = weights[present][np.argsort(np.array(counts)[present])]
        assert (np.diff(by_count) <= 1e-12).all()


@examples
@given(counts=counts_with_images, beta=betas)
def test_effective_numbers_lie_between_one_and_the_count(counts, beta):
    numbers = class_weights.effective_number(counts, beta=beta)
    assert (numbers <= np.array(counts) * (1 + 1e-9)).all()
    assert (numbers >= (np.array(counts) > 0) * (1 - 1e-9)).all()


def test_limits_in_beta():
    counts = [500, 30, 4]
    uniform = class_weights.effective_number_weights(counts, beta=0.0)
    np.testing.assert_array_equal(uniform, np.ones(3))
    inverse = class_weights.inverse_frequency_weights(counts)
    near_one = class_weights.effective_number_weights(counts, beta=1 - 1e-9)
    np.testing.assert_allclose(near_one, inverse, rtol=1e-5)


def test_small_counts_keep_their_digits():
    number = class_weights.effective_number([4], beta=0.9999)
    np.testing.assert_allclose(number, sum(0.9999**i for i in range(4)), rtol=1e-14)


def test_negative_log_weights():
    weights = class_weights.negative_log_weights([1000, 10, 0])
    np.testing.assert_allclose(weights, [1, 1 + np.log(100), 0])


@pytest.mark.parametrize('beta', [-0.1, 1.0])
def test_impossible_betas_are_refused(beta):
    with pytest.raises(ValueError, match='beta'):
        class_weights.effective_number([3, 1], beta=beta)


@pytest.mark.parametrize(
    'weights',
    [
        class_weights.effective_number,
        class_weights.effective_number_weights,
        class_weights.inverse_frequency_weights,
        class_weights.negative_log_weights,
    ],
)
@pytest.mark.parametrize('counts', [[0, 0], [3, -1], [[3, 1]]])
def test_impossible_counts_are_refused(weights, counts):
    with pytest.raises(ValueError, match='counts'):
        weights(counts)
