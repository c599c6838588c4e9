import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltjax import losses

SAMPLERS = [losses.instance_balanced, losses.class_balanced, losses.square_root]
counts_with_images = st.lists(st.integers(0, 10**6), min_size=1, max_size=30).filter(any)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(counts=counts_with_images)
def test_probabilities_sum_to_one_and_absent_classes_get_none(counts):
    for sampler in SAMPLERS:
        probabilities = sampler(counts)
        assert probabilities.dtype == np.float64
        np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-12)
        np.testing.assert_array_equal(probabilities > 0, np.array(counts) > 0)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(counts=counts_with_images)
def test_square_root_lies_between_the_other_two(counts):
    largest = int(np.argmax(counts))
    balanced, root, instance = (
        sampler(counts)[largest]
        for sampler in (losses.class_balanced, losses.square_root, losses.instance_balanced)
    )
    assert balanced <= root * (1 + 1e-12) <= instance * (1 + 1e-11)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=50))
def test_images_of_a_class_share_its_probability(labels):
    counts = np.bincount(labels, minlength=6)
    for sampler in SAMPLERS:
        class_prob = sampler(counts)
        images = losses.instance_probabilities(class_prob, labels)
        np.testing.assert_allclose(
            np.bincount(labels, weights=images, minlength=6), class_prob, atol=1e-12
        )
    np.testing.assert_allclose(
        losses.instance_probabilities(losses.instance_balanced(counts), labels), 1 / len(labels)
    )


def test_priors():
    np.testing.assert_allclose(losses.class_prior([6, 3, 1]), [0.6, 0.3, 0.1], rtol=1e-14)
    log_prior = losses.log_prior([6, 4, 0], floor=1e-9)
    np.testing.assert_allclose(log_prior, np.log([0.6, 0.4, 1e-9]), rtol=1e-14)


@pytest.mark.parametrize('counts', [[], [0, 0], [3, -1], [np.nan, 1], [[1, 2]]])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match='counts'):
        losses.class_balanced(counts)


def test_impossible_labels_are_refused():
    with pytest.raises(ValueError, match=r'0\.\.1'):
        losses.instance_probabilities([0.5, 0.5], [0, 2])
    with pytest.raises(ValueError, match=r'\[1\] have a probability but no image'):
        losses.instance_probabilities([0.5, 0.5], [0, 0])


def test_balanced_draws_take_every_class_equally_and_every_image_of_it():
    labels = jnp.asarray([2, 0, 0, 1, 0, 2])
    counts = jnp.asarray([3, 1, 2])
    index = jax.jit(losses.balanced_draws, static_argnums=3)(jax.random.key(0), labels, counts, 600)
    np.testing.assert_array_equal(np.bincount(labels[index]), [600, 600, 600])
    frequencies = np.bincount(index, minlength=6) / 600
    np.testing.assert_allclose(frequencies, [1 / 2, 1 / 3, 1 / 3, 1, 1 / 3, 1 / 2], atol=0.07)
