"""AdUni and PaCo: their losses are those of the golden-tested functions; switches, schedules and state by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import losses, methods, models, sharding
from ltjax.engine.state import flatten
from ltjax.errors import UserError
from ltjax.losses import class_probabilities, contrastive, parametric, queues
from ltjax.methods.task import Task

pytestmark = pytest.mark.usefixtures('traced_once')

STEPS = 3  # an epoch: 56 images in batches of 16
SMALL = {'embedding_dim': 8, 'queue': 32, 'alpha.decay_epochs': 2}
COUNTS = np.array(tiny.COUNTS)
LOG_PRIOR = np.log(COUNTS / COUNTS.sum())


def config(path='any', **changes):
    named = {f'method.{name}': value for name, value in (SMALL | changes).items()}
    return tiny.config('aduni', path, {'select': 'last'} | named)


def recipe(**changes):
    changes = {name.replace('__', '.'): value for name, value in changes.items()}
    made = config(**changes).method
    return methods.recipe(made, Task(COUNTS, (0.5,), (0.25,)))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module', params=['aduni', 'paco'])
def finished(request, data, tmp_path_factory):
    changes = {'variant': request.param}
    if request.param == 'paco':
        changes |= {'train.sampler': 'progressively_balanced', 'dropout': 0.5}
    made = config(data, **changes)
    return made, tiny.run(made, tmp_path_factory.mktemp(request.param))


# One call of the loss, by hand.


@pytest.fixture(scope='module')
def network():
    model = models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=nnx.Rngs(0))
    recipe().add_heads(model, nnx.Rngs(1))
    return model


@pytest.fixture(scope='module')
def batch():
    rng = np.random.default_rng(1)
    views = rng.normal(size=(2, 6, 12, 12, 1)).astype(np.float32)
    labels = jnp.asarray([0, 0, 1, 1, 0, 0])  # class 2 is absent
    return {'label': labels, 'first': jnp.asarray(views[0]), 'second': jnp.asarray(views[1])}


@pytest.fixture(scope='module')
def memory(network):
    """A momentum encoder unlike the network, and a queue of which three quarters are filled."""
    rng = np.random.default_rng(0)
    rows = losses.normalise_rows(jnp.asarray(rng.normal(size=(24, 8)), jnp.float32))
    queue = queues.push(queues.empty_queue(32, 8), rows, jnp.asarray(rng.integers(0, 3, 24)))
    parameters = nnx.state(network, nnx.Param)
    return {'momentum': jax.tree.map(lambda x: x * 0.9, parameters), 'queue': queue}


def loss(network, batch, extra=None, step=0, **changes):
    """Not compiled, which would take longer than it."""
    update = recipe(**changes).stages[0].updates[0]
    return update.loss_fn(nnx.clone(network), extra or {}, batch, jax.random.key(2), step)


def heads(model, images):
    features = nnx.clone(model).encode(images)
    return model.classify(features), losses.normalise_rows(model.projection(features))


def both(network, batch):
    images = jnp.concatenate([batch['first'], batch['second']])
    return *heads(network, images), jnp.tile(batch['label'], 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('changes', 'step', 'options'),
    [
        ({}, STEPS - 1, {'alpha': 1.0}),
        ({}, STEPS, {'alpha': 0.505}),  # half the way: (1 + cos(pi / 2)) / 2
        ({'alpha__schedule': 'printed', 'alpha__max': 2.0}, 0, {'alpha': 3.99}),
        ({'alpha__schedule': 'half_cosine', 'alpha__min': 0.2}, STEPS, {'alpha': 0.6}),
        ({'alpha__schedule': 'fixed'}, STEPS, {'alpha': 0.01}),
        ({'temperature': 0.3}, 0, {'temperature': 0.3}),
        ({'prior': 'none'}, 0, {'log_prior': None}),
        (
            {'positives': 'sum', 'class_temperature': 0.1, 'base_temperature': 0.0},
            0,
            {'positives': 'sum', 'class_temperature': 0.1, 'base_temperature': None},
        ),
    ],
    ids=str,
)
def test_aduc_is_that_of_the_golden_tested_function(network, batch, changes, step, options):
    logits, embeddings, labels = both(network, batch)
    expected = parametric.adaptive_unified_contrastive(
        logits, embeddings, labels, **{'log_prior': LOG_PRIOR, 'alpha': 1.0} | options
    )
    found = loss(network, batch, step=step, **changes)
    np.testing.assert_allclose(found.value, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.logged['alpha'], options.get('alpha', 1.0), rtol=1e-6)
    cross_entropy = losses.softmax_cross_entropy(logits, labels).mean()
    np.testing.assert_allclose(found.logged['cross_entropy'], cross_entropy, rtol=1e-5)
    assert found.extra is None


@pytest.mark.slow
def test_without_aduc_each_term_has_a_softmax_of_its_own(network, batch):
    logits, embeddings, labels = both(network, batch)
    features = contrastive.supervised_contrastive(embeddings, labels, temperature=0.1)
    # Every row has its other view, so the contrast of logits is their adjusted cross-entropy.
    classes = losses.logit_adjusted(logits, labels, log_prior=LOG_PRIOR)
    found = loss(network, batch, step=STEPS, unified=False)
    np.testing.assert_allclose(found.value, (0.505 * features + classes).mean(), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('alpha', ['fixed', 'compounded'])
def test_paco_is_that_of_the_golden_tested_function(network, batch, memory, alpha):
    found = loss(network, batch, memory, STEPS, variant='paco', alpha__schedule=alpha)
    labels, queue = batch['label'], memory['queue']
    logits, embeddings = heads(network, batch['first'])
    slow = nnx.merge(nnx.graphdef(network), memory['momentum'], nnx.state(network, nnx.BatchStat))
    _, keys = heads(slow, batch['second'])
    expected = parametric.parametric_contrastive(
        logits,
        embeddings,
        labels,
        log_prior=LOG_PRIOR,
        keys=jnp.concatenate([keys, queue.features[:24]]),  # what is not filled does not count
        key_labels=jnp.concatenate([labels, queue.labels[:24]]),
        alpha=0.01 if alpha == 'fixed' else 0.505,
        temperature=0.1,
    )
    np.testing.assert_allclose(found.value, expected.mean(), rtol=1e-5)
    # Its keys enter after the loss was taken.
    after = found.extra['queue']
    np.testing.assert_allclose(after.features[24:30], keys, rtol=1e-5, atol=1e-6)
    assert after.labels[24:30].tolist() == labels.tolist()
    assert after.filled.tolist() == [True] * 30 + [False] * 2
    assert tiny.same(found.extra['momentum'], memory['momentum'])


@pytest.mark.slow
def test_the_momentum_encoder_is_the_moving_average_of_the_parameters(network, memory):
    update = recipe(variant='paco', momentum=0.75).stages[0].updates[0]
    after = jax.jit(update.after_step)(memory, nnx.state(network), jnp.int32(0))
    parameters, slow = flatten(nnx.state(network, nnx.Param)), flatten(memory['momentum'])
    moved = flatten(after['momentum'])
    assert set(moved) == set(parameters)
    for name, value in moved.items():
        expected = 0.75 * slow[name] + 0.25 * parameters[name]
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-7)
    assert recipe().stages[0].updates[0].after_step is None


@pytest.mark.slow
def test_dropout_is_before_the_classifier_and_in_training_alone(batch):
    model = models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=nnx.Rngs(0))
    recipe(dropout=0.5).add_heads(model, nnx.Rngs(1))
    values = []
    for seed in (0, 0, 1):
        models.set_key(model, jax.random.key(seed))
        # With eq. 1 alone the classifier's input does not matter; with eq. 2 it does.
        value = loss(model, batch, unified=False, alpha__schedule='fixed', alpha__fixed=0.0).value
        values.append(float(value))
    assert values[0] == values[1] != values[2]
    model.eval()
    plain = model(batch['first'])
    np.testing.assert_allclose(plain.logits, model.classify(plain.features))
    model.dropout.rate = 0.0
    assert np.array_equal(plain.logits, model(batch['first']).logits)


# Samplers and the prior of the logits, epoch by epoch.


@pytest.mark.parametrize('name', ['instance_balanced', 'class_balanced', 'square_root'])
def test_samplers_without_a_schedule_go_by_their_name(network, batch, name):
    update = recipe(train__sampler=name).stages[0].updates[0]
    assert update.sampler == name
    drawn = getattr(class_probabilities, name)(COUNTS)
    for prior, log_prior in (('sampled', np.log(drawn)), ('training', LOG_PRIOR)):
        found = loss(network, batch, train__sampler=name, prior=prior)
        assert_prior(found, network, batch, log_prior)


def test_progressively_balanced_sampling_and_its_prior_move_with_the_epoch(network, batch):
    changes = {'train__sampler': 'progressively_balanced', 'train__epochs': 3, 'prior': 'sampled'}
    drawn = recipe(**changes).stages[0].updates[0].sampler
    middle = (COUNTS / COUNTS.sum() + 1 / 3) / 2
    np.testing.assert_allclose(drawn, [COUNTS / COUNTS.sum(), middle, [1 / 3] * 3])
    for step, epoch in ((STEPS - 1, 0), (STEPS, 1), (3 * STEPS - 1, 2), (3 * STEPS, 2)):
        found = loss(network, batch, step=step, alpha__schedule='fixed', **changes)
        assert_prior(found, network, batch, np.log(drawn[epoch]))


def assert_prior(found, network, batch, log_prior):
    logits, embeddings, labels = both(network, batch)
    expected = parametric.adaptive_unified_contrastive(
        logits, embeddings, labels, log_prior=log_prior, alpha=found.logged['alpha']
    )
    np.testing.assert_allclose(found.value, expected.mean(), rtol=1e-5)


# Whole runs.


@pytest.mark.slow
def test_a_run_is_finite_and_alpha_falls(finished):
    made, (state, _, rows) = finished
    leaves = [leaf for leaf in jax.tree.leaves(state) if np.issubdtype(leaf.dtype, np.floating)]
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert [row['stage'] for row in rows] == [made.method.variant] * 2
    assert [row['alpha'] for row in rows] == pytest.approx([1.0, 0.505])
    assert set(state.extra) == ({'momentum', 'queue'} if made.method.variant == 'paco' else set())


@pytest.mark.slow
def test_the_state_of_a_run_is_taken_up_bit_for_bit(finished, tmp_path):
    made, (state, best, _) = finished
    tiny.interrupt(made, tmp_path, at=1)
    resumed, best_resumed, rows = tiny.run(made, tmp_path)
    assert [row['round'] for row in rows] == [1]
    assert best == best_resumed
    assert tiny.same(state, resumed)
    if made.method.variant == 'paco':
        assert resumed.extra['queue'].filled.all()
        assert int(resumed.extra['queue'].pointer) == 2 * STEPS * 16 % 32


@pytest.mark.slow
def test_one_device_ends_where_eight_do(finished, tmp_path):
    made, (state, _, rows) = finished
    one = sharding.make_mesh(jax.devices()[:1])
    alone, _, rows_alone = tiny.run(made, tmp_path, mesh=one)
    for ours, theirs in zip(rows_alone, rows, strict=True):
        assert ours['loss'] == pytest.approx(theirs['loss'], rel=1e-4)
    found = flatten((alone.model, alone.extra))
    for name, value in flatten((state.model, state.extra)).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-2, atol=2e-3, err_msg=name)


@pytest.mark.parametrize(
    ('schedule', 'values'), [('compounded', [1.0, 0.505]), ('fixed', [0.01, 0.01])]
)
def test_the_report_draws_alpha_by_epoch(schedule, values):
    (plot,) = recipe(alpha__schedule=schedule).plots(None)
    assert plot['title'] == 'weight of rows of the same class'
    assert plot['lines'] == {'alpha': [[0, 1], pytest.approx(values)]}


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'variant': 'pacco'}, "unknown method.variant 'pacco': did you mean paco"),
        ({'alpha__schedule': 'cosine'}, "unknown method.alpha.schedule 'cosine'.*half_cosine"),
        (
            {'train__sampler': 'progressive'},
            "unknown method.train.sampler 'progressive'.*progressively_balance",
        ),
        ({'prior': 'sample'}, "unknown method.prior 'sample': did you mean sampled"),
        ({'positives': 'max'}, "unknown method.positives 'max'"),
        ({'variant': 'paco', 'unified': False}, 'unified=False is an ablation of AdUni'),
        ({'variant': 'paco', 'queue': 8}, 'queue 8 does not hold a batch: use 16 or more'),
        ({'temperature': 0.0}, 'temperature is 0.0: use a positive number'),
        ({'class_temperature': -1.0}, 'class_temperature is -1.0'),
        ({'embedding_dim': 0}, 'embedding_dim is 0'),
        ({'alpha__decay_epochs': 0}, 'alpha.decay_epochs is 0'),
        ({'base_temperature': -0.1}, 'base_temperature is -0.1: use 0 or more'),
        ({'alpha__fixed': -1.0}, 'alpha.fixed is -1.0'),
        ({'momentum': 1.5}, 'momentum is 1.5: use a number from 0 to 1'),
        ({'dropout': 2.0}, 'dropout is 2.0'),
    ],
    ids=str,
)
def test_mistakes_are_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        recipe(**changes)
    assert '\n' not in str(error.value)
