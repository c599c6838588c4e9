import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltjax import losses
from ltjax.losses import samplers

SAMPLERS = {
    'instance_balanced': losses.instance_balanced,
    'class_balanced': losses.class_balanced,
    'square_root': losses.square_root,
    'class_aware': functools.partial(losses.class_aware, gamma=0.5),
    'inverse_frequency': losses.inverse_frequency,
    'bmix_cbrt': losses.bmix_cbrt,
    'progressively_balanced': functools.partial(losses.progressively_balanced, epoch=3, epochs=9),
    'effective_number_balanced': losses.effective_number_balanced,
    'gcl_balanced': losses.gcl_balanced,
    'deferred_resampling': functools.partial(losses.deferred_resampling, epoch=160),
}
each_sampler = pytest.mark.parametrize('sampler', SAMPLERS.values(), ids=SAMPLERS.keys())
counts_with_images = st.lists(st.integers(0, 10**6), min_size=1, max_size=30).filter(any)
tried = settings(max_examples=25, deadline=None, derandomize=True)


@each_sampler
@tried
@given(counts=counts_with_images)
def test_probabilities_sum_to_one_and_absent_classes_get_none(sampler, counts):
    probabilities = sampler(counts)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-12)
    np.testing.assert_array_equal(probabilities > 0, np.array(counts) > 0)


# But for GCL's, whose betas are rounded.
@pytest.mark.parametrize('name', sorted(SAMPLERS.keys() - {'gcl_balanced'}))
@tried
@given(counts=counts_with_images)
def test_probabilities_follow_the_counts_one_way(name, counts):
    present = np.unique([count for count in counts if count])
    steps = np.diff(SAMPLERS[name](present))
    sign = -1 if name in ('class_aware', 'inverse_frequency') else 1
    assert (sign * steps >= -1e-12).all()


@tried
@given(counts=counts_with_images)
def test_square_root_lies_between_the_other_two(counts):
    largest = int(np.argmax(counts))
    balanced, root, instance = (
        sampler(counts)[largest]
        for sampler in (losses.class_balanced, losses.square_root, losses.instance_balanced)
    )
    assert balanced <= root * (1 + 1e-12) <= instance * (1 + 1e-11)


@tried
@given(counts=counts_with_images)
def test_limits_of_the_samplers_with_a_knob(counts):
    instance, balanced = losses.instance_balanced(counts), losses.class_balanced(counts)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9)
    close(losses.class_aware(counts, gamma=-1.0), instance)
    close(losses.class_aware(counts, gamma=0.0), balanced)
    close(losses.class_aware(counts, gamma=-0.5), losses.square_root(counts))
    close(losses.class_aware(counts, gamma=1.0), losses.inverse_frequency(counts))
    close(losses.progressively_balanced(counts, epoch=0, epochs=9), instance)
    close(losses.progressively_balanced(counts, epoch=8, epochs=9), balanced)
    close(losses.effective_number_balanced(counts, beta=0.0), instance)
    nearly_balanced = losses.effective_number_balanced(counts, beta=1 - 1e-12)
    np.testing.assert_allclose(nearly_balanced, balanced, rtol=1e-3)
    close(losses.deferred_resampling(counts, epoch=3, start=4), instance)
    close(
        losses.deferred_resampling(counts, epoch=4, start=4),
        losses.effective_number_balanced(counts),
    )
    close(losses.difficulty_aware(counts, accuracy=np.full(len(counts), 0.7)), instance)


def test_gcl_without_spread_is_the_effective_number():
    counts = [4800, 460, 12]
    rounded = float(np.float32(0.9999))
    np.testing.assert_allclose(
        losses.gcl_balanced(counts, spread=0.0),
        losses.effective_number_balanced(counts, beta=rounded),
        rtol=1e-12,
    )
    # A larger beta for the small classes gives them a smaller weight for each image.
    assert (losses.gcl_balanced(counts) != losses.gcl_balanced(counts, spread=0.0)).all()


def test_difficult_classes_are_drawn_more_often():
    weights = losses.difficulty_weights([0.9, 0.3, 0.0], floor=0.1)
    np.testing.assert_allclose(weights, np.array([1, 3, 9]) / 13, rtol=1e-12)
    drawn = losses.difficulty_aware([10, 10, 0], accuracy=[0.9, 0.3, 0.0])
    np.testing.assert_allclose(drawn, [0.25, 0.75, 0], rtol=1e-12)
    with pytest.raises(ValueError, match='accuracy must be one number from 0 to 1'):
        losses.difficulty_weights([90.0, 30.0])
    with pytest.raises(ValueError, match=r'accuracy must have shape \(2,\)'):
        losses.difficulty_aware([10, 10], accuracy=[0.5])


@each_sampler
@tried
@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=50))
def test_images_of_a_class_share_its_probability(sampler, labels):
    counts = np.bincount(labels, minlength=6)
    class_prob = sampler(counts)
    images = losses.instance_probabilities(class_prob, labels)
    np.testing.assert_allclose(
        np.bincount(labels, weights=images, minlength=6), class_prob, atol=1e-12
    )
    np.testing.assert_array_equal(images, losses.per_sample_weights(class_prob, counts)[labels])


def test_every_image_is_equally_likely_when_instance_balanced():
    labels = [0, 2, 2, 0, 0, 1]
    images = losses.instance_probabilities(losses.instance_balanced([3, 1, 2]), labels)
    np.testing.assert_allclose(images, 1 / 6)


def test_priors():
    np.testing.assert_allclose(losses.class_prior([6, 3, 1]), [0.6, 0.3, 0.1], rtol=1e-14)
    log_prior = losses.log_prior([6, 4, 0])
    np.testing.assert_allclose(log_prior, np.log([0.6, 0.4, 0.4]), rtol=1e-14)


@each_sampler
@pytest.mark.parametrize('counts', [[], [0, 0], [3, -1], [np.nan, 1], [[1, 2]]])
def test_impossible_counts_are_refused(sampler, counts):
    with pytest.raises(ValueError, match='counts'):
        sampler(counts)


def test_impossible_labels_are_refused():
    with pytest.raises(ValueError, match=r'0\.\.1'):
        losses.instance_probabilities([0.5, 0.5], [0, 2])
    with pytest.raises(ValueError, match=r'\[1\] have a probability but no image'):
        losses.instance_probabilities([0.5, 0.5], [0, 0])
    with pytest.raises(ValueError, match='class_prob must have shape'):
        losses.per_sample_weights([0.5, 0.5], [1, 1, 1])


@tried
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    surplus=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_blocks_are_balanced_and_see_every_image_alike(counts, surplus, seed):
    num_classes, largest, batch_size = len(counts), max(counts), len(counts) + surplus
    order = np.tile(np.arange(largest), (num_classes, 1))
    permutations = np.random.default_rng(seed).permuted(order, axis=1)
    blocks = losses.balanced_blocks(counts, batch_size=batch_size, permutations=permutations)
    batches, per_class = num_classes * largest // batch_size, batch_size // num_classes
    assert blocks.shape == (batches, num_classes, per_class)
    labels = np.repeat(np.arange(num_classes), counts)
    np.testing.assert_array_equal(labels[blocks] - np.arange(num_classes)[None, :, None], 0)
    seen = np.bincount(blocks.ravel(), minlength=len(labels))
    assert (seen <= np.ceil(largest / np.asarray(counts))[labels]).all()


def test_impossible_blocks_are_refused():
    order = np.zeros((2, 3), int)
    with pytest.raises(ValueError, match=r'classes \[1\] are not'):
        losses.balanced_blocks([3, 0], batch_size=2, permutations=order)
    with pytest.raises(ValueError, match='batch_size must be at least 2'):
        losses.balanced_blocks([3, 1], batch_size=1, permutations=order)
    with pytest.raises(ValueError, match=r'permutations must have shape \(2, 4\)'):
        losses.balanced_blocks([4, 1], batch_size=2, permutations=order)


def test_an_epoch_is_as_long_as_all_classes_being_the_largest():
    assert losses.epoch_length([48, 17, 0, 2]) == 3 * 48


def test_disagreement_is_zero_where_all_passes_agree_and_largest_where_each_is_sure():
    sure = [[1.0, 0.0], [0.0, 1.0]]
    agreed = [[0.5, 0.5], [0.5, 0.5]]
    probabilities = np.stack([sure, agreed], axis=1)
    np.testing.assert_allclose(losses.bald(probabilities), [np.log(2), 0], atol=1e-15)
    with pytest.raises(ValueError, match='probabilities must have shape'):
        losses.bald(sure)


def test_the_most_uncertain_are_queried_first():
    np.testing.assert_array_equal(losses.uncertainty_query([0.2, 0.9, 0.9, 0.1], 3), [1, 2, 0])
    assert len(losses.uncertainty_query([0.2], 0)) == 0
    with pytest.raises(ValueError, match=r'number must lie in 0\.\.1, got 2'):
        losses.uncertainty_query([0.2], 2)


def test_balanced_draws_take_every_class_equally_and_every_image_of_it():
    labels = jnp.asarray([2, 0, 0, 1, 0, 2])
    counts = jnp.asarray([3, 1, 2])
    draws = jax.jit(losses.balanced_draws, static_argnums=3)
    index = draws(jax.random.key(0), labels, counts, 600)
    np.testing.assert_array_equal(np.bincount(labels[index]), [600, 600, 600])
    frequencies = np.bincount(index, minlength=6) / 600
    np.testing.assert_allclose(frequencies, [1 / 2, 1 / 3, 1 / 3, 1, 1 / 3, 1 / 2], atol=0.07)


def test_every_sampler_is_found_in_samplers():
    names = (
        'instance_balanced',
        'class_balanced',
        'square_root',
        'class_aware',
        'deferred_resampling',
        'balanced_draws',
    )
    assert all(getattr(samplers, name) is getattr(losses, name) for name in names)
