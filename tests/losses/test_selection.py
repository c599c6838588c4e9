import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import draws
from ltjax.losses import reduce, selection

ratios = st.sampled_from([0.01, 0.25, 0.29, 0.5, 0.7, 1.0])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    values=st.lists(st.integers(0, 5), min_size=8, max_size=8),
    mask=st.lists(st.booleans(), min_size=8, max_size=8),
    ratio=ratios,
)
def test_the_largest_of_those_that_count_are_kept(values, mask, ratio):
    values, mask = np.array(values, np.float32), np.array(mask)
    selected = selection.hardest_examples(values, keep_ratio=ratio, where=mask)
    selected, counted = np.asarray(selected), int(mask.sum())
    assert selected.sum() == (max(1, int(ratio * counted)) if counted else 0)
    assert not (selected & ~mask).any()
    dropped = mask & ~selected
    if selected.any() and dropped.any():
        assert values[selected].min() >= values[dropped].max()


def test_of_equal_losses_the_earlier_is_kept():
    selected = selection.hardest_examples(jnp.array([1.0, 2.0, 1.0, 1.0]), keep_ratio=0.5)
    assert selected.tolist() == [True, True, False, False]


@pytest.mark.parametrize(('size', 'ratio'), [(100, 0.29), (10, 0.7), (3, 0.1), (7, 1.0)])
def test_the_number_kept_is_rounded_down_in_double_precision(size, ratio):
    selected = selection.hardest_examples(jnp.arange(float(size)), keep_ratio=ratio)
    assert int(selected.sum()) == max(1, int(ratio * size))


def test_the_selection_is_over_the_batch_of_all_devices():
    values = draws.normal(0, 16)
    mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(values, NamedSharding(mesh, PartitionSpec('data')))
    want = selection.hardest_examples(values, keep_ratio=0.4)
    np.testing.assert_array_equal(
        jax.jit(lambda v: selection.hardest_examples(v, keep_ratio=0.4))(sharded), want
    )
    assert int(want.sum()) == 6


def test_only_selected_examples_have_a_gradient():
    def loss(values):
        return reduce.mean(values, selection.hardest_examples(values, keep_ratio=0.5))

    gradient = jax.grad(loss)(jnp.array([3.0, 1.0, 2.0, jnp.inf]))
    assert gradient.tolist() == [0.5, 0, 0, 0.5]


@pytest.mark.parametrize('keep_ratio', [0.0, 1.1])
def test_impossible_ratios_are_refused(keep_ratio):
    with pytest.raises(ValueError, match='keep_ratio'):
        selection.hardest_examples(jnp.zeros(4), keep_ratio=keep_ratio)
