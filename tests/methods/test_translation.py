"""M2m: who is trained when, what may be translated into what, and that the second network learns from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import draws
import tiny
from ltjax import losses, methods, models, sharding
from ltjax.engine.state import flatten
from ltjax.engine.step import key_for, set_batch_norm
from ltjax.errors import UserError
from ltjax.methods.task import Task
from ltjax.run import train

pytestmark = pytest.mark.usefixtures('traced_once')

STEPS = 3  # a round: 56 images in batches of 16
# Every larger class may lend, and a probability of a tenth will do: else these networks translate nothing.
EASY = {'retrain.beta': 0.0, 'retrain.confidence': 0.1}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def watched(data, tmp_path_factory):
    """The state before and after each step [(update, before, after)], and the run's result."""
    return tiny.watch(tiny.tuned('m2m', data, EASY), tmp_path_factory.mktemp('watched'))


@pytest.fixture(scope='module')
def first_stage(data, tmp_path_factory):
    """Workdir of a run whose first stage the others take over."""
    folder = tmp_path_factory.mktemp('first')
    train.run(tiny.tuned('m2m', data, EASY), folder)
    return folder


@pytest.mark.slow
def test_the_second_network_begins_where_the_first_did_and_the_first_stands_still(watched):
    steps = watched[0]
    assert [name for name, _, _ in steps] == ['train'] * 2 * STEPS + ['retrain'] * 2 * STEPS
    end, begin = steps[2 * STEPS - 1][2], steps[2 * STEPS][1]
    assert tiny.same(begin.model, steps[0][1].model)
    for _, before, after in steps[2 * STEPS :]:
        assert set(after.extra) == {'g'}
        assert tiny.same(flatten(after.extra['g']), flatten(end.model))
        assert set(tiny.parameters(before)) <= tiny.moved(before, after)
    assert tiny.finite(watched[1][0], watched[1][2])


@pytest.mark.slow
def test_images_are_translated_from_the_deferred_epoch_on(watched):
    shares = [row['translated'] for row in watched[1][2] if row['stage'] == 'translation']
    assert shares[0] == 0
    assert 0 < shares[1] < 2 / 3 + 0.2


@pytest.mark.slow
@pytest.mark.parametrize('at', [1, 3])
def test_it_resumes_with_the_same_bits(data, watched, tmp_path, at):
    made = tiny.tuned('m2m', data, EASY)
    tiny.interrupt(made, tmp_path, at=at)
    state, best, _ = tiny.run(made, tmp_path)
    assert tiny.same(state, watched[1][0])
    assert best == watched[1][1]


@pytest.mark.slow
@pytest.mark.eight_devices
def test_one_device_and_eight_train_the_same(watched, data, first_stage, tmp_path):
    made = tiny.tuned('m2m', data, EASY, start_from=str(first_stage))
    state, _, rows = tiny.run(made, tmp_path, mesh=sharding.make_mesh(jax.devices()[:1]))
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(watched[1][0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-3)
    assert [row['translated'] for row in rows] == [r['translated'] for r in watched[1][2][2:]]


@pytest.mark.slow
def test_without_confidence_there_is_no_translation(watched, data, first_stage, tmp_path):
    changes = EASY | {'retrain.confidence': 1.0}
    made = tiny.tuned('m2m', data, changes, start_from=str(first_stage))
    state, _, rows = tiny.run(made, tmp_path)
    assert [row['translated'] for row in rows] == [0, 0]
    assert not tiny.same(tiny.parameters(state), tiny.parameters(watched[1][0]))


@pytest.mark.slow
def test_a_first_stage_of_cross_entropy_may_be_borrowed(data, tmp_path):
    train.run(tiny.tuned('cross_entropy', data), tmp_path / 'first')
    made = tiny.tuned('m2m', data, EASY, start_from=str(tmp_path / 'first'))
    state, _, rows = tiny.run(made, tmp_path / 'run')
    assert tiny.finite(state, rows)
    assert not tiny.same(flatten(state.extra['g']), flatten(state.model))


# The loss against an image at a time.

COUNTS, MEAN, STD = (50, 20, 2), 0.4, 0.3
LABELS = jnp.array([0, 0, 1, 2, 2, 1, 0, 2])


def network(seed):
    return models.create('small_cnn', num_classes=3, channels=1, width=2, rngs=nnx.Rngs(seed))


@pytest.mark.slow
def test_the_loss_is_that_of_each_image_or_of_its_translation():
    values = {'beta': 0.9, 'lam': 0.7, 'confidence': 0.3, 'iterations': 2, 'step_size': 0.4}
    changes = {f'retrain.{name}': value for name, value in values.items()}
    made = tiny.tuned('m2m', changes=changes | {'retrain.defer_until': 0})
    task = Task(np.array(COUNTS), (MEAN,), (STD,))
    loss_fn = methods.recipe(made.method, task).stages[1].updates[0].loss_fn
    graphdef, f = nnx.split(network(0))
    g = nnx.state(network(1))
    images, key = draws.uniform(2, 8, 8, 8, 1), jax.random.key(3)
    batch = {'view': (images - MEAN) / STD, 'label': LABELS}

    @jax.jit
    def ours(f):
        loss = loss_fn(nnx.merge(graphdef, f, copy=True), {'g': g}, batch, key, jnp.asarray(0))
        return loss.value, loss.logged['translated']

    def logits(state, views, *, running=True):
        model = nnx.merge(graphdef, state, copy=True)
        set_batch_norm(model, 'running' if running else 'batch')
        return model(views).logits

    @jax.jit
    def translation(pixels, old, label):
        """Returns an image's view after its steps, and the probability of `label` by g."""

        def objective(pixels):
            views = (pixels - MEAN) / STD
            of_g = logits(g, views)[0]
            return jax.nn.logsumexp(of_g) - of_g[label] + 0.7 * logits(f, views)[0, old]

        for _ in range(2):
            gradient = jax.grad(objective)(pixels)
            pixels = jnp.clip(pixels - 0.4 * gradient / jnp.linalg.norm(gradient), 0, 1)
        views = (pixels - MEAN) / STD
        return views[0], jax.nn.softmax(logits(g, views)[0])[label]

    acceptance = losses.m2m_seed_acceptance(COUNTS, beta=0.9)
    chosen = losses.m2m_seeds(key_for(key, 'seeds'), LABELS, LABELS, acceptance=acceptance)
    start = losses.m2m_start(key_for(key, 'start'), images[chosen], radius=0.5)
    lends, stays = (jax.random.uniform(key_for(key, name), (8,)) for name in ('accept', 'keep'))
    seen, places = list(batch['view']), []
    for i, label in enumerate(LABELS.tolist()):
        old = int(LABELS[chosen[i]])
        view, sure = translation(start[i][None], old, label)
        lent = lends[i] < 1 - 0.9 ** max(COUNTS[old] - COUNTS[label], 0)
        if sure >= 0.3 and lent and stays[i] >= COUNTS[label] / COUNTS[0]:
            places.append(i)
            seen[i] = view
    assert 0 < len(places) < (LABELS != 0).sum()  # some are, and some that could be are not
    assert not set(places) & set(np.flatnonzero(LABELS == 0))
    learnt = jax.jit(lambda views: logits(f, views, running=False))(jnp.stack(seen))
    expected = losses.mean(losses.softmax_cross_entropy(learnt, LABELS))
    found, translated = ours(f)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(translated, len(places) / 8)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'retrain.defer_until': 2}, 'defer_until 2 is not before the end of 2 epochs'),
        ({'retrain.beta': 1.0}, 'retrain.beta is 1.0: use a number from 0 to below 1'),
        ({'retrain.confidence': 1.5}, 'retrain.confidence is 1.5: use a number from 0 to 1'),
        ({'retrain.iterations': 0}, 'retrain.iterations is 0: use 1 or more'),
        ({'retrain.step_size': 0.0}, 'retrain.step_size is 0.0: use a positive number'),
        ({'retrain.sampler': 'balanced'}, "unknown sampler 'balanced'"),
        ({'retrain.epochs': 0}, 'defer_until'),
    ],
    ids=str,
)
def test_mistakes_are_refused_in_a_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        methods.recipe(tiny.tuned('m2m', changes=changes).method, tiny.task())
    assert '\n' not in str(error.value)
