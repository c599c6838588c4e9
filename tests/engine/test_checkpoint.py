"""Checkpoints: which are kept, and what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from ltjax import sharding
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.state import TrainState
from ltjax.errors import UserError


def state(value, mesh=None):
    tree = TrainState(
        {'weights': jnp.full((4, 3), value)},
        {'train': {'momentum': jnp.full(3, value), 'count': jnp.int32(value)}},
        {'teacher': jnp.full(2, value)},
    )
    return sharding.replicate(tree, mesh or sharding.make_mesh())


def save_all(checkpoints, scores, ends=()):
    for number, score in enumerate(scores):
        progress = {'number': number, 'stage_end': number in ends, 'round': number}
        checkpoints.save(state(number), progress, score)


@pytest.mark.parametrize(
    ('scores', 'ends', 'kept'),
    [
        ((0.1, 0.3, 0.2), (), [1, 2]),
        ((0.1, 0.3, 0.3), (), [1, 2]),
        ((0.3, 0.2, 0.1), (), [0, 1, 2]),
        ((0.3, 0.2, 0.1, 0.1), (), [0, 2, 3]),
        # The best of the last but one stays until the last one has its sums.
        ((0.3, 0.2, 0.1, 0.4), (), [0, 2, 3]),
        ((0.1, 0.2, 0.3), (), [1, 2]),
        ((-1.0, -1.0, 0.1, 0.3, 0.2), (1, 4), [1, 3, 4]),
        ((-1.0, -1.0, -1.0), (), [1, 2]),
    ],
)
def test_the_two_newest_their_best_and_the_ends_of_stages_are_kept(tmp_path, scores, ends, kept):
    checkpoints = Checkpoints(tmp_path)
    save_all(checkpoints, scores, ends)
    checkpoints.close()
    reopened = Checkpoints(tmp_path)
    assert reopened.numbers() == kept
    for number in kept:
        assert tiny.same(reopened.restore(number, state(0)), state(number))
        assert reopened.progress(number)['round'] == number
    reopened.close()


def test_what_is_kept_holds_over_a_restart(tmp_path):
    first = Checkpoints(tmp_path)
    save_all(first, (0.1, 0.9, 0.2))
    first.close()
    second = Checkpoints(tmp_path)
    second.save(state(3), {'number': 3, 'stage_end': False}, 0.5)
    second.close()
    third = Checkpoints(tmp_path)
    assert third.numbers() == [1, 2, 3]
    third.close()


def test_a_part_can_be_read_on_other_devices(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save_all(checkpoints, (0.5,))
    checkpoints.close()
    one = sharding.make_mesh(jax.devices()[:1])
    whole = state(9, one)
    reopened = Checkpoints(tmp_path)
    part = reopened.restore(0, TrainState(whole.model, {}, {}))
    assert np.asarray(part.model['weights']).tolist() == np.zeros((4, 3)).tolist()
    assert part.model['weights'].sharding.device_set == {jax.devices()[0]}
    assert part.optimizers == {}
    reopened.close()


def test_another_network_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save_all(checkpoints, (0.5,))
    checkpoints.close()
    reopened = Checkpoints(tmp_path)
    wider = state(0)._replace(model={'weights': jnp.zeros((4, 5))})
    with pytest.raises(UserError, match='does not fit this network at model.weights'):
        reopened.restore(0, wider)
    other = state(0)._replace(model={'kernel': jnp.zeros((4, 3))})
    with pytest.raises(UserError, match='does not fit this network at model.kernel'):
        reopened.restore(0, other)
    with pytest.raises(UserError, match='checkpoint 7 of .* cannot be used: there is none'):
        reopened.restore(7, state(0))
    reopened.close()


def test_a_copy_is_taken_before_save_returns(tmp_path):
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    checkpoints = Checkpoints(tmp_path)
    current = state(0)
    for number in range(5):
        checkpoints.save(current, {'number': number, 'stage_end': True}, 0.0)
        current = step(current)  # overwrites the buffers while the save goes on
    checkpoints.close()
    reopened = Checkpoints(tmp_path)
    for number in range(5):
        assert tiny.same(reopened.restore(number, state(0)), state(number))
    reopened.close()
