"""Images drawn by the state: written before a round, read by its streams, the same after an interruption."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from ltjax import losses, methods, sharding
from ltjax.engine import loop, optim
from ltjax.engine.stage import Loss, Recipe, Stage, Stream, Update
from ltjax.errors import UserError

pytestmark = pytest.mark.usefixtures('traced_once')

STEPS = 3


def recipe(config, task):
    """Draws two classes in a round, with weights that depend on the network, in two streams; counts what it saw."""
    views = {'view': task.view('upright_weak')}

    def loss_fn(model, extra, batch, key, step):
        values = losses.softmax_cross_entropy(model(batch['view']).logits, batch['label'])
        both = jnp.concatenate([batch['index'], batch['other']['index']])
        seen = extra['seen'].at[step // STEPS].add(jnp.bincount(both, length=56))
        return Loss(losses.mean(values), {}, extra | {'seen': seen})

    def prepare(state, run):
        seen = jnp.zeros((2, 56), int)
        return state._replace(extra={'seen': seen, 'draw': jnp.ones(56)})

    def before_round(state, run, round_):
        certain = run.train_logits(state, views['view'], run.key('pass', round_)).max(axis=1)
        chosen = run.train_labels != round_
        return state._replace(extra=state.extra | {'draw': jnp.asarray(np.exp(certain) * chosen)})

    update = Update(
        name='train',
        loss_fn=loss_fn,
        optimizer=optim.make(config.train.optimizer, 2, STEPS),
        steps=STEPS,
        batch_size=16,
        sampler='state',
        views=views,
        streams={'other': Stream('state', {})},
    )
    stage = Stage('drawn', (update,), rounds=2, prepare=prepare, before_round=before_round)
    return Recipe((stage,))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def method():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods.get('cross_entropy'), 'recipe', recipe)
        yield


@pytest.fixture(scope='module')
def whole(data, method, tmp_path_factory):
    made = tiny.tuned('cross_entropy', data)
    return made, tiny.run(made, tmp_path_factory.mktemp('whole'))


@pytest.mark.slow
def test_a_round_sees_what_was_drawn_before_it(whole):
    _, (state, _, rows) = whole
    labels = np.repeat(np.arange(3), tiny.COUNTS)
    for round_, seen in enumerate(state.extra['seen']):
        assert seen.sum() == 2 * 16 * STEPS
        assert set(labels[seen > 0]) == {0, 1, 2} - {round_}
    assert tiny.finite(state, rows)


@pytest.mark.slow
@pytest.mark.parametrize('step', [2, 4])
def test_a_run_killed_inside_a_round_goes_on_with_the_same_bits(whole, tmp_path, step):
    made, (state, best, rows) = whole
    tiny.end_at(made, tmp_path, step)
    resumed, best_resumed, rows_resumed = tiny.run(made, tmp_path)
    assert tiny.same(state, resumed)
    assert best == best_resumed
    assert tiny.timeless(rows)[-1] == tiny.timeless(rows_resumed)[-1]


@pytest.mark.slow
@pytest.mark.eight_devices
def test_one_device_draws_what_eight_do(whole, data, tmp_path):
    made, (state, _, _) = whole
    one, *_ = tiny.run(made, tmp_path, mesh=sharding.make_mesh(jax.devices()[:1]))
    np.testing.assert_allclose(one.extra['draw'], state.extra['draw'], rtol=1e-3)
    assert (one.extra['seen'] != state.extra['seen']).mean() < 0.05  # of nearly equal weights


@pytest.mark.slow
def test_passes_over_the_training_images(data, method, tmp_path):
    trained = tiny.training(tiny.tuned('cross_entropy', data), tmp_path)
    trained.checkpoints.close()
    state = loop.TrainState(trained.new_model(trained.key('model')), {}, {})
    plain = trained.train_logits(state)
    assert plain.shape == (56, 3)
    images = trained.data.images_of('train')
    np.testing.assert_array_equal(plain, trained.predict(state, images)[1])
    view = next(iter(trained.recipe.stages[0].updates[0].views.values()))
    one, same, other = (trained.train_logits(state, view, trained.key('a', i)) for i in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert (one != plain).any()


@pytest.mark.slow
@pytest.mark.parametrize('draw', [np.ones(3), np.zeros(56), -np.ones(56)])
def test_a_draw_that_is_none_is_refused(data, method, tmp_path, monkeypatch, draw):
    def wrong(config, task):
        made = recipe(config, task).stages[0]

        def before_round(state, run, round_):
            return state._replace(extra=state.extra | {'draw': jnp.asarray(draw)})

        return Recipe((Stage('drawn', made.updates, 2, made.prepare, before_round),))

    monkeypatch.setattr(methods.get('cross_entropy'), 'recipe', wrong)
    with pytest.raises(ValueError, match='a value a training image|not all 0'):
        tiny.run(tiny.tuned('cross_entropy', data), tmp_path)


def test_a_config_cannot_ask_for_it():
    with pytest.raises(UserError, match="unknown sampler 'state'"):
        tiny.task().sampler('state', 1)
