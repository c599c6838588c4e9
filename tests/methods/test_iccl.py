"""ICCL: the warm-up, the centroids, who moves what; every switch changes what it says."""

import jax
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import methods, sharding
from ltjax.engine import loop
from ltjax.engine.state import flatten
from ltjax.errors import UserError
from ltjax.losses import class_probabilities
from ltjax.run import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('traced_once')]

STEPS = 3  # a round: 56 images in batches of 16


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def watched(data, tmp_path_factory):
    """The unchanged run: the state before and after each step [(update, before, after)], and its result."""
    return tiny.watch(tiny.config('iccl', data, tiny.LAST), tmp_path_factory.mktemp('watched'))


@pytest.fixture(scope='module')
def first_stage(data, tmp_path_factory):
    """Workdir of a run whose first stage the others take over, and its results."""
    folder = tmp_path_factory.mktemp('first')
    return folder, train.run(tiny.config('iccl', data, tiny.LAST), folder)


def config(changes=None, data='any', **others):
    return tiny.tuned('iccl', data, changes, **others)


# Who moves what.


def test_steps_come_in_order(watched):
    assert [name for name, _, _ in watched[0]] == ['train'] * 2 * STEPS + ['retrain'] * 2 * STEPS


def test_centroids_start_at_nothing_and_follow_the_embeddings(watched):
    steps = [(before, after) for name, before, after in watched[0] if name == 'train']
    assert not steps[0][0].extra['centroids'].any()
    for number, (before, after) in enumerate(steps):
        moved_by = after.extra['centroids'] - before.extra['centroids']
        assert np.linalg.norm(moved_by, axis=1).max() > 0
        # The mean of unit vectors, after at most 16 samples of a class and step.
        longest = 1 - 0.99 ** (16 * (number + 1))
        assert np.linalg.norm(after.extra['centroids'], axis=1).max() <= longest + 1e-6


def test_the_second_stage_moves_the_classifier_and_nothing_else(watched):
    steps = watched[0]
    end = [after for name, _, after in steps if name == 'train'][-1]
    for name, before, after in steps:
        if name == 'retrain':
            assert tiny.moved(before, after) == set(tiny.parameters(before, 'classifier'))
            assert tiny.same(before.extra, after.extra)
    start = steps[2 * STEPS][1]
    assert tiny.same(end.model, start.model)  # fine-tuned, not reset
    assert tiny.same(end.extra['centroids'], watched[1][0].extra['centroids'])
    assert tiny.same(flatten(start.extra['teacher']), tiny.parameters(start, 'classifier'))


def test_no_mixture_reaches_the_network_during_the_warm_up(watched, data, tmp_path):
    other = config({'train.lam_alpha': 0.1, 'train.gamma': 1.0, 'retrain.enabled': False}, data)
    trained = tiny.training(other, tmp_path)
    states = []

    def save(state, *_):
        states.append(jax.device_get(state))

    trained.checkpoints.save = save
    loop.run(trained)
    trained.checkpoints.close()
    steps = [after for name, _, after in watched[0] if name == 'train']
    assert tiny.same(states[0], steps[STEPS - 1]._replace(optimizers=states[0].optimizers))
    assert not tiny.same(states[1].model, steps[-1].model)
    rows = watched[1][2]
    assert rows[0]['loss'] == pytest.approx(rows[0]['cross_entropy'] + rows[0]['contrast'])
    total = rows[1]['cross_entropy'] + rows[1]['interpolated_contrast']
    assert rows[1]['loss'] == pytest.approx(total + rows[1]['interpolated_cross_entropy'])


@pytest.mark.parametrize('gamma', [-1.0, 0.0, 0.5, 1.0])
def test_gamma_is_that_of_the_samplers(gamma):
    made = config({'train.gamma': gamma, 'retrain.gamma': gamma})
    first, second = [s.updates[0] for s in methods.recipe(made.method, tiny.task()).stages]
    expected = class_probabilities.class_aware(tiny.COUNTS, gamma=gamma)
    assert np.array_equal(first.streams['class_aware'].sampler, expected)
    assert np.array_equal(second.sampler, expected)
    assert first.sampler == 'instance_balanced'
    if gamma == -1:
        np.testing.assert_allclose(expected, np.array(tiny.COUNTS) / sum(tiny.COUNTS))


# Switches of stage 1: they change the end of the stage.


@pytest.mark.parametrize(
    ('changes', 'logged'),
    [
        ({'train.warmup_epochs': 0}, {'interpolated_cross_entropy', 'interpolated_contrast'}),
        ({'train.interpolated_cross_entropy': False}, {'contrast', 'interpolated_contrast'}),
        ({'train.centroid_contrast': False}, {'interpolated_cross_entropy'}),
        (
            {'train.centroid_contrast': False, 'train.interpolated_cross_entropy': False},
            set(),
        ),
        (
            {'train.gamma': -1.0},
            {'contrast', 'interpolated_cross_entropy', 'interpolated_contrast'},
        ),
    ],
    ids=lambda value: str(value if isinstance(value, dict) else sorted(value)),
)
def test_switches_of_the_first_stage(watched, data, tmp_path, changes, logged):
    state, _, rows = tiny.run(config(changes | {'retrain.enabled': False}, data), tmp_path)
    assert tiny.finite(state, rows)
    assert {row['stage'] for row in rows} == {'representation'}
    base = [after for name, _, after in watched[0] if name == 'train'][-1]
    assert not tiny.same(tiny.parameters(state), tiny.parameters(base))
    terms = {'cross_entropy', 'contrast', 'interpolated_cross_entropy', 'interpolated_contrast'}
    assert terms & set(rows[0]) == {'cross_entropy'} | logged


# Switches of stage 2: from the same first stage, they change the end.


@pytest.mark.parametrize(
    ('changes', 'what'),
    [
        ({'retrain.gamma': 0.0}, 'classifier'),
        ({'retrain.distillation_weight': 0.0}, 'classifier'),
        ({'retrain.temperature': 1.0}, 'classifier'),
        ({'retrain.reset_classifier': True}, 'classifier'),
        ({'retrain.trains': 'all'}, 'all'),
    ],
    ids=str,
)
def test_switches_of_the_second_stage(watched, data, first_stage, tmp_path, changes, what):
    made = config(changes, data, start_from=str(first_stage[0]))
    state, _, rows = tiny.run(made, tmp_path)
    assert tiny.finite(state, rows)
    assert [row['stage'] for row in rows] == ['rebalance'] * 2
    base = watched[1][0]
    assert not tiny.same(tiny.parameters(state, 'classifier'), tiny.parameters(base, 'classifier'))
    encoder = tiny.same(tiny.parameters(state, 'encoder'), tiny.parameters(base, 'encoder'))
    assert encoder is (what == 'classifier')
    statistics = [nnx.split_state(s.model, nnx.BatchStat, ...)[0] for s in (state, base)]
    assert tiny.same(*map(flatten, statistics))


def test_a_borrowed_first_stage_gives_the_same_state(watched, data, first_stage, tmp_path):
    made = config({}, data, start_from=str(first_stage[0]))
    state, _, _ = tiny.run(made, tmp_path)
    assert tiny.same(state, watched[1][0])


def test_distillation_alone_leaves_the_classifier_where_it_is(data, first_stage, tmp_path):
    changes = {'retrain.distillation_weight': 1.0, 'retrain.optimizer.weight_decay': 0.0}
    made = config(changes, data, start_from=str(first_stage[0]))
    _, _, rows = tiny.run(made, tmp_path)
    assert all(row['loss'] == pytest.approx(0, abs=1e-5) for row in rows)
    assert all(row['gradient_norm'] == pytest.approx(0, abs=1e-4) for row in rows)


# What lasts.


def test_the_report_draws_the_norms_of_the_centroids(watched, first_stage):
    plots = {plot['title']: plot['per_class'] for plot in first_stage[1]['plots']}
    norms = np.linalg.norm(watched[1][0].extra['centroids'], axis=1)
    np.testing.assert_allclose(plots['norm of class centroids'], norms, rtol=1e-6)
    assert (norms > 0).all()
    assert 'norm of class centroids' in (first_stage[0] / 'report.html').read_text('utf-8')


@pytest.mark.parametrize('at', [1, 2, 3])
def test_centroids_and_teacher_survive_an_interruption_bit_for_bit(watched, data, tmp_path, at):
    tiny.interrupt(config({}, data), tmp_path, at=at)
    state, _, _ = tiny.run(config({}, data), tmp_path)
    assert tiny.same(state, watched[1][0])


def test_one_device_and_eight_train_the_same(watched, data, tmp_path):
    one = sharding.make_mesh(jax.devices()[:1])
    state, _, rows = tiny.run(config({}, data), tmp_path, mesh=one)
    for a, b in zip(
        jax.tree.leaves((state.model, state.extra)),
        jax.tree.leaves((watched[1][0].model, watched[1][0].extra)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-3)
    for a, b in zip(rows, watched[1][2], strict=True):
        assert a['loss'] == pytest.approx(b['loss'], rel=1e-2)


def test_a_class_of_one_image_runs_to_the_end(tmp_path):
    path = tiny.npz(tmp_path / 'data.npz', **tiny.arrays((32, 16, 1)))
    state, _, rows = tiny.run(config({}, path), tmp_path / 'run')
    assert tiny.finite(state, rows)


# Mistakes.


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        (
            'train.centroid_rule',
            'means',
            "unknown method.train.centroid_rule 'means': did you mean mean",
        ),
        ('retrain.trains', 'encoder', "unknown method.retrain.trains 'encoder'.*all, classifier"),
        ('train.warmup_epochs', 2, 'none of 2 epochs: use 0 to 1'),
        ('train.warmup_epochs', -1, 'use 0 to 1'),
        ('train.lam_beta', 0.0, 'train.lam_beta is 0.0: use a positive number'),
        ('train.temperature', -1.0, 'train.temperature is -1.0'),
        ('train.embedding_dim', 0, 'train.embedding_dim is 0'),
        ('train.centroid_momentum', 1.5, 'centroid_momentum is 1.5: use a number from 0 to 1'),
        ('retrain.distillation_weight', -0.5, 'retrain.distillation_weight is -0.5'),
        ('retrain.temperature', 0.0, 'retrain.temperature is 0.0'),
        ('retrain.epochs', 0, 'no step'),
        ('retrain.view', 'weak', "unknown augmentation 'weak'"),
    ],
)
def test_mistakes_in_the_recipe(key, value, message):
    with pytest.raises(UserError, match=message) as error:
        methods.recipe(config({key: value}).method, tiny.task())
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'off',
    [
        {'interpolated_cross_entropy': False, 'centroid_contrast': False},
        {'interpolative_weight': 0.0},
    ],
)
def test_nothing_to_learn_after_the_warm_up_is_refused(off):
    values = {f'train.{key}': value for key, value in off.items()}
    with pytest.raises(UserError, match='nothing is learnt after the warm-up'):
        methods.recipe(config(values | {'train.uniform_weight': 0.0}).method, tiny.task())
    methods.recipe(config(values | {'train.uniform_weight': 1.0}).method, tiny.task())
