"""Checkpoints: which are kept, and what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

import tiny
from ltjax import sharding
from ltjax.engine import checkpoint, checksums
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


def files(folder):
    return sorted(path for path in folder.rglob('*') if path.is_file())


def saved(folder, scores=(0.1, 0.3, 0.2), best=None):
    checkpoints = Checkpoints(folder / 'checkpoints')
    for number, score in enumerate(scores):
        progress = {'number': number, 'stage_end': False, 'round': number, 'best': best}
        checkpoints.save(state(number), progress, score)
    checkpoints.close()


@pytest.mark.parametrize(
    'item', ['state', 'progress', 'metrics', '_CHECKPOINT_METADATA', 'sha256.json']
)
@pytest.mark.parametrize('how', ['flip', 'cut', 'remove'])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(tmp_path, item, how):
    saved(tmp_path)
    newest = tmp_path / 'checkpoints' / '2'
    for path in [path for path in files(newest) if path.relative_to(newest).parts[0] == item][:1]:
        content = path.read_bytes()
        if how == 'remove':
            path.unlink()
        else:
            half = len(content) // 2
            changed = bytes([content[half] ^ 1]) + content[half + 1 :] if how == 'flip' else b''
            path.write_bytes(content[:half] + changed)
    reopened = Checkpoints(tmp_path / 'checkpoints')
    assert reopened.numbers() == [1]
    assert tiny.same(reopened.restore(1, state(0)), state(1))
    reopened.close()
    line, going_on = reopened.set_aside
    assert 'checkpoint 2: it is ' in line
    assert str(tmp_path / 'set_aside' / '2') in line
    assert going_on == 'going on from checkpoint 1'
    assert (tmp_path / 'set_aside' / '2').is_dir()


def test_any_flipped_byte_is_found(tmp_path):
    saved(tmp_path, (0.1,))
    folder = tmp_path / 'checkpoints' / '0'
    assert checksums.examine(folder) == ('', None)
    for path in files(folder):
        content = path.read_bytes()
        for at in {0, len(content) // 2, len(content) - 1} - {-1}:
            path.write_bytes(content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :])
            assert checksums.examine(folder)[0], (path, at)
        path.write_bytes(content)
    assert checksums.examine(folder) == ('', None)
    (folder / 'state' / 'more').write_bytes(b'')
    assert checksums.examine(folder)[0] == 'it is damaged (state/more)'


def test_a_checkpoint_whose_best_is_damaged_is_not_gone_on_from(tmp_path):
    saved(tmp_path, (0.3, 0.2), best={'checkpoint': 0})
    (tmp_path / 'checkpoints' / '0' / 'sha256.json').unlink()
    reopened = Checkpoints(tmp_path / 'checkpoints')
    assert reopened.numbers() == []
    reopened.close()
    assert 'checkpoint 0: it is unfinished' in reopened.set_aside[0]
    assert 'checkpoint 1: the best before it, checkpoint 0, is damaged' in reopened.set_aside[1]
    assert reopened.set_aside[2] == 'going on from the beginning'


def test_a_reader_changes_nothing_and_refuses_what_is_damaged(tmp_path):
    saved(tmp_path)
    path = next(
        path for path in files(tmp_path / 'checkpoints' / '2' / 'state') if path.stat().st_size
    )
    path.write_bytes(path.read_bytes()[:-1] + b'?')
    before = files(tmp_path)
    reader = Checkpoints(tmp_path / 'checkpoints', read_only=True)
    with pytest.raises(
        UserError, match=r'checkpoint 2 of .* cannot be used: it is damaged \(state/'
    ):
        reader.restore(2, state(0))
    assert tiny.same(reader.restore(1, state(0)), state(1))
    reader.close()
    assert files(tmp_path) == before


def test_scratch_comes_back_in_its_structure(tmp_path):
    scratch = {'virtual': (jnp.ones((2, 3)), jnp.zeros(2)), 'features': jnp.arange(4.0)}
    checkpoints = Checkpoints(tmp_path)
    progress = {'number': 0, 'stage_end': False}
    checkpoints.save(state(0), progress, -1.0, sharding.replicate(scratch, sharding.make_mesh()))
    checkpoints.save(state(1), progress | {'number': 1}, -1.0)
    checkpoints.wait()
    where = sharding.replicated(sharding.make_mesh())
    assert tiny.same(checkpoints.scratch(0, where), scratch)
    assert checkpoints.scratch(1, where) == {}
    checkpoints.close()


def test_what_cannot_be_written_is_one_line_and_the_checkpoint_before_stays(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / 'checkpoints')
    checkpoints.save(state(0), {'number': 0, 'stage_end': False}, 0.0)
    checkpoints.wait()

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(checksums, 'seal', full)
    checkpoints.save(state(1), {'number': 1, 'stage_end': False}, 0.0)
    with pytest.raises(UserError, match='no checkpoint can be written to .*No space left') as error:
        checkpoints.wait()
    assert '\n' not in str(error.value)
    checkpoints.close()
    reopened = Checkpoints(tmp_path / 'checkpoints')
    assert reopened.numbers() == [0]
    reopened.close()


def test_the_reason_of_the_system_is_told_however_much_the_libraries_say(tmp_path):
    checkpoints = Checkpoints(tmp_path / 'checkpoints')
    with (
        pytest.raises(UserError, match=r'checkpoints \(No space left on device\): mend'),
        checkpoints._writing(),
    ):
        raise ValueError('RESOURCE_EXHAUSTED: ' + 'x' * 300 + ' No space left on device [...]')
    checkpoints.close()


def test_orbax_logs_no_traceback_of_what_it_raises(tmp_path):
    Checkpoints(tmp_path / 'checkpoints').close()
    [chosen] = [f for f in logging.get_absl_logger().filters if f is checkpoint._not_told]
    made = logging.get_absl_logger().makeRecord
    error = (ValueError, ValueError('full'), None)
    assert not chosen(made('absl', 40, '/x/orbax/future.py', 1, 'failed', (), error))
    assert chosen(made('absl', 40, '/x/orbax/future.py', 1, 'failed', (), None))
    assert chosen(made('absl', 40, '/x/ltjax/loop.py', 1, 'failed', (), error))
