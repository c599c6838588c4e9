"""The small parts of the engine: optimisers, inference in batches, the logbook."""

import io
import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltjax import sharding
from ltjax.engine import inference, optim
from ltjax.engine.logbook import Logbook
from ltjax.errors import UserError
from ltjax.settings import typed

SGD = {'name': 'sgd', 'learning_rate': 0.5, 'schedule': 'constant'}


def moves(settings, steps=10, gradient=3.0):
    """Returns how far the parameter 2.0 moves in each of `steps` steps of a constant gradient."""
    optimizer = optim.make(typed(optim.Optimizer, settings), steps)
    parameter = jnp.array([2.0])
    state = optimizer.init(parameter)
    result = []
    for _ in range(steps):
        update, state = optimizer.update(jnp.array([gradient]), state, parameter)
        parameter = optax.apply_updates(parameter, update)
        result.append(float(update[0]))
    return result


def test_sgd_is_rate_times_gradient():
    np.testing.assert_allclose(moves(SGD, 3), -1.5)


def test_momentum_adds_up():
    np.testing.assert_allclose(moves(SGD | {'momentum': 0.5}, 3), [-1.5, -2.25, -2.625])


def test_weight_decay_of_sgd_is_added_to_the_gradient():
    assert moves(SGD | {'weight_decay': 0.1}, 1) == pytest.approx([-0.5 * (3.0 + 0.2)])


def test_clip_norm_bounds_the_gradient_before_the_decay():
    settings = SGD | {'clip_norm': 1.0, 'weight_decay': 0.1}
    assert moves(settings, 1) == pytest.approx([-0.5 * (1.0 + 0.2)])


def test_cosine_falls_to_zero_over_the_steps():
    sizes = np.abs(moves(SGD | {'schedule': 'cosine'}, 10))
    expected = 1.5 * (1 + np.cos(np.pi * np.arange(10) / 10)) / 2
    np.testing.assert_allclose(sizes, expected, rtol=1e-5)


@pytest.mark.parametrize('schedule', ['constant', 'cosine'])
def test_warm_up_rises_from_zero(schedule):
    sizes = np.abs(moves(SGD | {'schedule': schedule, 'warmup_steps': 4}, 10))
    np.testing.assert_allclose(sizes[:5], 1.5 * np.arange(5) / 4, rtol=1e-5)


def test_adam_takes_steps_of_its_rate():
    for name in ('adam', 'adamw'):
        assert moves(SGD | {'name': name}, 1) == pytest.approx([-0.5], rel=1e-4)
    decoupled = moves(SGD | {'name': 'adamw', 'weight_decay': 0.1}, 1)
    assert decoupled == pytest.approx([-0.5 * (1 + 0.2)], rel=1e-4)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [({'name': 'sdg'}, 'did you mean sgd'), ({'schedule': 'cos'}, 'did you mean cosine')],
)
def test_unknown_names_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        typed(optim.Optimizer, SGD | changes)
    with pytest.raises(UserError, match='no step'):
        optim.make(typed(optim.Optimizer, SGD), 0)


@pytest.mark.parametrize('number', [1, 8, 11, 16])
def test_inference_pads_the_last_batch_and_cuts_it_off(number):
    shapes = set()

    def forward(model, images):
        shapes.add(images.shape)
        return images[:, 0, 0, :] * model, images[:, 0, 0, :] + model

    images = np.arange(number, dtype=np.uint8).reshape(-1, 1, 1, 1)
    mesh = sharding.make_mesh()
    features, logits = inference.run(forward, 2, images, batch_size=5, mesh=mesh)
    assert features.ravel().tolist() == [2 * i for i in range(number)]
    assert logits.ravel().tolist() == [i + 2 for i in range(number)]
    assert shapes == {(8, 1, 1, 1)}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def fill(workdir, stream, rows=()):
    logbook = Logbook(workdir, stream=stream)
    logbook.begin(rows, step=0)
    logbook.progress('rrl/train', 1, 4, 0.5, 16)
    logbook.row({'stage': 'rrl', 'round': 0, 'loss': 0.25, 'val_balanced_accuracy': 0.5}, step=2)
    logbook.close()


def test_the_logbook_is_quiet_when_not_on_a_terminal(tmp_path):
    stream = io.StringIO()
    fill(tmp_path, stream)
    assert stream.getvalue() == ''
    row = json.loads((tmp_path / 'metrics.jsonl').read_text('utf-8'))
    assert row == {
        'stage': 'rrl', 'round': 0, 'loss': 0.25, 'val_balanced_accuracy': 0.5, 'step': 2,
    }  # fmt: skip
    assert list((tmp_path / 'tensorboard').iterdir())


def test_the_logbook_shows_progress_on_a_terminal(tmp_path):
    stream = Terminal()
    fill(tmp_path, stream)
    shown = stream.getvalue()
    assert 'rrl/train step 1/4, loss 0.5000' in shown
    assert 'rrl round 0: loss 0.2500, validation balanced accuracy 50.0%\n' in shown


def test_a_resumed_logbook_has_the_rows_of_its_checkpoint_and_no_others(tmp_path):
    fill(tmp_path, io.StringIO())
    path = tmp_path / 'metrics.jsonl'
    (row,) = map(json.loads, path.read_text('utf-8').splitlines())
    path.write_bytes(path.read_bytes() * 2 + b'{"stage": "rrl", "rou\x00')
    earlier = row | {'round': -1, 'step': 1}
    fill(tmp_path, io.StringIO(), [earlier])
    assert [json.loads(line) for line in path.read_text('utf-8').splitlines()] == [earlier, row]
