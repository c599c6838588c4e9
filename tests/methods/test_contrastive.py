"""Contrastive learning and its probe: losses are those of the golden-tested functions; what each stage moves."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import benchmarks, losses, methods, models, sharding
from ltjax.engine.state import flatten
from ltjax.errors import UserError
from ltjax.losses import contrastive

pytestmark = pytest.mark.usefixtures('traced_once')

NAMES = ('supcon', 'cicl', 'infonce', 'conmix')
STEPS = 2  # an epoch: 56 images in batches of 24


def recipe(name='supcon', **changes):
    changes = {key.replace('__', '.'): value for key, value in changes.items()}
    return methods.recipe(tiny.tuned(name, changes=changes).method, tiny.task())


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def watched(data, tmp_path_factory):
    """CICL, every step of which is looked at."""
    made = tiny.tuned('cicl', data, {'train.embedding_dim': 8})
    return made, *tiny.watch(made, tmp_path_factory.mktemp('cicl'))


# One call of the loss, by hand.


@pytest.fixture(scope='module')
def network():
    model = models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=nnx.Rngs(0))
    recipe(train__embedding_dim=8).add_heads(model, nnx.Rngs(1))
    return model


@pytest.fixture(scope='module')
def batch():
    views = np.random.default_rng(1).normal(size=(2, 6, 12, 12, 1)).astype(np.float32)
    labels = jnp.asarray([0, 0, 1, 2, 0, 0])  # classes 1 and 2 have one image
    return {'label': labels, 'first': jnp.asarray(views[0]), 'second': jnp.asarray(views[1])}


@pytest.fixture(scope='module')
def embeddings(network, batch):
    images = jnp.concatenate([batch['first'], batch['second']])
    model = nnx.clone(network)
    return losses.normalise_rows(model.projection(model.encode(images)))


def loss(network, batch, name, **changes):
    update = recipe(name, **changes).stages[0].updates[0]
    return update.loss_fn(nnx.clone(network), {}, batch, jax.random.key(2), 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('changes', 'options'),
    [
        ({}, {}),
        ({'train__loss__temperature': 0.3}, {'temperature': 0.3}),
        ({'train__loss__base_temperature': 0.0}, {'base_temperature': None}),
    ],
    ids=str,
)
def test_supcon_is_that_of_the_golden_tested_function(network, batch, embeddings, changes, options):
    expected = contrastive.supervised_contrastive(
        embeddings, jnp.tile(batch['label'], 2), **options
    )
    found = loss(network, batch, 'supcon', **changes)
    np.testing.assert_allclose(found.value, expected.mean(), rtol=1e-5)
    # A class of one image has the other view of it as its positive.
    assert (expected > 0).all()
    assert found.extra is None


@pytest.mark.slow
def test_infonce_is_that_of_the_golden_tested_function_and_has_no_labels(
    network, batch, embeddings
):
    expected = contrastive.nt_xent(embeddings, jnp.tile(jnp.arange(6), 2), temperature=0.5).mean()
    for labels in (batch['label'], jnp.zeros(6, int)):
        found = loss(network, batch | {'label': labels}, 'infonce')
        np.testing.assert_allclose(found.value, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('mixtures', [2, 4, 40])
def test_conmix_contrasts_the_means_of_random_groups(network, batch, embeddings, mixtures):
    found = loss(network, batch, 'conmix', train__loss__mixtures=mixtures)
    group = np.asarray(jax.random.randint(jax.random.key(2), (6,), 0, mixtures))
    first, second = np.asarray(embeddings, np.float64).reshape(2, 6, 8)
    some = np.unique(group)
    means = np.stack([view[group == g].mean(axis=0) for view in (first, second) for g in some])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    similar = means @ means.T / 0.2
    np.fill_diagonal(similar, -np.inf)
    logs = similar - np.log(np.exp(similar).sum(axis=1, keepdims=True))
    other_view = (np.arange(len(means)) + len(some)) % len(means)
    expected = -logs[np.arange(len(means)), other_view].mean()
    np.testing.assert_allclose(found.value, expected, rtol=1e-5)


def test_a_network_that_gives_nothing_has_a_finite_gradient_of_mixtures():
    contrast = methods.get('conmix').mixed_nt_xent(temperature=0.2, mixtures=5)
    value, gradient = jax.jit(jax.value_and_grad(contrast))(
        jnp.zeros((6, 4)), jnp.zeros(3, int), jax.random.key(0)
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


# Whole runs.


@pytest.mark.slow
def test_the_first_stage_moves_the_encoder_and_the_probe_the_classifier(watched):
    _, steps, (state, _, rows) = watched
    assert [row['stage'] for row in rows] == ['supervised_contrastive'] * 2 + ['probe'] * 2
    assert tiny.finite(state, rows)
    assert len(steps) == 4 * STEPS
    classifier = {'classifier.kernel.value', 'classifier.bias.value'}
    for _, before, after in steps[: 2 * STEPS]:
        assert not tiny.moved(before, after) & classifier
        moved = tiny.moved(before, after)
        assert any('projection' in name for name in moved)
        assert any('norms' in name for name in moved)
    for _, before, after in steps[2 * STEPS :]:
        # Not even the running statistics.
        assert tiny.moved(before, after) == classifier
    # A new classifier: not the one that lay still.
    end_of_first, start_of_probe = steps[2 * STEPS - 1][2], steps[2 * STEPS][1]
    assert tiny.moved(end_of_first, start_of_probe) == classifier


@pytest.mark.slow
@pytest.mark.parametrize('at', [1, 3])
def test_a_run_is_taken_up_bit_for_bit_in_either_stage(watched, tmp_path, at):
    made, _, (state, best, _) = watched
    tiny.interrupt(made, tmp_path, at=at)
    resumed, best_resumed, rows = tiny.run(made, tmp_path)
    assert len(rows) == 4 - at
    assert best == best_resumed
    assert tiny.same(state, resumed)


@pytest.mark.slow
@pytest.mark.eight_devices
def test_one_device_ends_where_eight_do(watched, tmp_path):
    made, _, (state, _, rows) = watched
    one = sharding.make_mesh(jax.devices()[:1])
    alone, _, rows_alone = tiny.run(made, tmp_path, mesh=one)
    for ours, theirs in zip(rows_alone, rows, strict=True):
        assert ours['loss'] == pytest.approx(theirs['loss'], rel=1e-4)
    found = flatten(alone.model)
    for name, value in flatten(state.model).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-2, atol=2e-3, err_msg=name)


# What the configs and the catalogue say.


@pytest.mark.parametrize('name', NAMES)
def test_the_epochs_of_the_encoder_are_the_benchmark_s(name):
    for benchmark in benchmarks.names():
        method = importlib.import_module(f'configs.{name}').get_config(benchmark).method
        assert method.train.epochs == benchmarks.get(benchmark).epochs
        assert (method.retrain.epochs, method.retrain.trains) == (10, 'classifier')
        assert (method.retrain.batch_norm, method.retrain.reset_classifier) == ('running', True)


def test_each_config_has_its_loss_and_samplers():
    found = {}
    for name in NAMES:
        method = importlib.import_module(f'configs.{name}').get_config('isic2018@aduni').method
        found[name] = method.train.loss.name, method.train.sampler, method.retrain.sampler
    assert found == {
        'supcon': ('supervised_contrastive', 'instance_balanced', 'instance_balanced'),
        'cicl': ('supervised_contrastive', 'balanced_blocks', 'balanced_blocks'),
        'infonce': ('nt_xent', 'instance_balanced', 'class_balanced'),
        'conmix': ('mixed_nt_xent', 'instance_balanced', 'class_balanced'),
    }


def test_batches_of_blocks_are_a_multiple_of_the_classes_that_a_benchmark_has():
    for benchmark in benchmarks.names():
        experiment = benchmarks.get(benchmark)
        method = importlib.import_module('configs.cicl').get_config(benchmark).method
        for stage, wanted in ((method.train, experiment.batch_size), (method.retrain, 128)):
            assert stage.batch_size % max(experiment.classes, 1) == 0
            assert abs(stage.batch_size - wanted) <= max(experiment.classes, 1)


PACO = {'variant': 'paco'}
SWITCHES = {'paco': PACO | {'alpha.schedule': 'fixed'}, 'paco_aduc': PACO}


@pytest.mark.parametrize('name', SWITCHES)
@pytest.mark.parametrize('benchmark', benchmarks.names())
def test_paco_is_adunis_with_its_switches_where_adunis_paper_has_it(name, benchmark):
    made = importlib.import_module(f'configs.{name}').get_config(benchmark)
    switched = importlib.import_module('configs.aduni').get_config(benchmark)
    switched.method.update_from_flattened_dict({'name': name} | SWITCHES[name])
    if name == 'paco' and benchmarks.get(benchmark).paper not in ('', 'aduni'):
        # PaCo's own.
        assert made.method.temperature == 0.05
        switched.method.temperature = 0.05
        assert (made.method.queue, made.method.momentum) == (1024, 0.999)
        assert (made.method.alpha.schedule, made.method.alpha.fixed) == ('fixed', 0.01)
    assert made.to_dict() == switched.to_dict()


# Mistakes.


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'train__loss__name': 'supcon'}, "unknown method.train.loss.name 'supcon'"),
        ({'train__loss__temperature': 0.0}, 'temperature is 0.0: use a positive number'),
        ({'train__loss__base_temperature': -1.0}, 'base_temperature is -1.0: use 0 or more'),
        ({'train__loss': {'name': 'mixed_nt_xent', 'mixtures': 1}}, 'mixtures is 1: use 2 or more'),
        ({'train__embedding_dim': 0}, 'embedding_dim is 0'),
        ({'train__second_view': 'upright_week'}, 'upright_weak'),
        ({'train__sampler': 'blocks'}, "unknown sampler 'blocks'.*balanced_blocks"),
        ({'train__batch_size': 1}, 'train.batch_size is 1, and an image alone'),
        (
            {'retrain__sampler': 'balanced_blocks', 'retrain__defer_until': 1},
            "sampler 'balanced_blocks' cannot be deferred: use class_balanced",
        ),
    ],
    ids=str,
)
def test_mistakes_are_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        recipe(**changes)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('stage', ['train', 'retrain'])
@pytest.mark.parametrize('batch_size', [2, 16, 30])
def test_batches_that_classes_and_devices_cannot_share_are_refused_before_the_first_step(
    data, tmp_path, stage, batch_size
):
    made = tiny.tuned('cicl', data, {f'{stage}.batch_size': batch_size})
    where = 'supervised_contrastive' if stage == 'train' else 'probe'
    message = (
        f"the batch size of {where}/train is {batch_size}, which 'balanced_blocks' cannot share evenly between "
        '3 classes and 8 devices: use 24.'
    )
    with pytest.raises(UserError) as error:
        tiny.training(made, tmp_path)
    assert str(error.value) == message
