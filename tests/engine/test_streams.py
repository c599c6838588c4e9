"""Further streams, heads and state that a loss changes: what methods beyond one stream and one head need."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import losses, methods
from ltjax.engine import optim, rounds
from ltjax.engine.stage import Loss, Recipe, Stage, Stream, Update
from ltjax.models.layers import linear

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


def recipe(config, task):
    """Cross-entropy on one stream, and on a second one, which draws the last class only, through a head of its own."""

    def loss_fn(model, extra, batch, key, step):
        tail = batch['tail']
        logits = model.side(model(tail['view']).features)
        side = losses.mean(losses.softmax_cross_entropy(logits, tail['label']))
        main = losses.mean(
            losses.softmax_cross_entropy(model(batch['view']).logits, batch['label'])
        )
        seen = extra['seen'] + jnp.bincount(tail['label'], length=task.num_classes)
        return Loss(main + side, {'side': side}, extra | {'seen': seen})

    def add_heads(model, rngs):
        model.side = linear(model.feature_dim, task.num_classes, rngs=rngs)

    views = {'view': task.view('upright_weak')}
    update = Update(
        name='train',
        loss_fn=loss_fn,
        optimizer=optim.make(config.train.optimizer, 2, 3),
        steps=3,
        batch_size=16,
        views=views,
        streams={'tail': Stream(np.eye(task.num_classes)[-1], views)},
    )

    def prepare(state, run):
        return state._replace(extra={'seen': jnp.zeros(task.num_classes, int)})

    return Recipe((Stage('both', (update,), rounds=2, prepare=prepare),), add_heads)


@pytest.fixture
def method(monkeypatch):
    monkeypatch.setattr(methods.get('cross_entropy'), 'recipe', recipe)


def test_a_further_stream_has_a_sampler_of_its_own(method, data, tmp_path):
    state, _, rows = tiny.run(tiny.config('cross_entropy', data, {'select': 'last'}), tmp_path)
    assert state.extra['seen'].tolist() == [0, 0, 2 * 3 * 16]
    assert rows[0]['side'] > rows[1]['side'] > 0


def test_heads_are_trained_saved_and_taken_up_again(method, data, tmp_path):
    made = tiny.config('cross_entropy', data)
    state, *_ = tiny.run(made, tmp_path)
    again, *_ = tiny.run(made, tmp_path)  # from its last checkpoint
    assert tiny.same(state.model, again.model)
    untrained = tiny.training(made, tmp_path / 'untrained')
    fresh = nnx.to_pure_dict(untrained.new_model(untrained.key('model')))
    untrained.checkpoints.close()
    trained = nnx.to_pure_dict(state.model)
    assert jax.tree.structure(fresh) == jax.tree.structure(trained)
    assert np.abs(trained['side']['kernel'] - fresh['side']['kernel']).max() > 0


def test_many_steps_a_call_give_the_bits_of_single_ones(method, data, tmp_path, monkeypatch):
    made, seen = tiny.config('cross_entropy', data, {'select': 'last'}), []
    for count in (1, 50):
        monkeypatch.setattr(rounds, 'STEPS_PER_CALL', count)
        state, _, rows = tiny.run(made, tmp_path / str(count))
        seen.append((state, tiny.timeless(rows)))
    (one, rows_one), (many, rows_many) = seen
    assert tiny.same(one, many)
    assert rows_one == rows_many
