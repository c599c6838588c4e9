"""BALMS: the sampler's rates are learned beside the classifier, and nothing else moves."""

import jax
import numpy as np
import pytest

import tiny
from ltjax import losses, methods, sharding
from ltjax.errors import UserError
from ltjax.run import train

pytestmark = pytest.mark.usefixtures('traced_once')

STEPS = 3  # a round: 56 images in batches of 16


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def made(data):
    return tiny.tuned('balms', data)


@pytest.fixture(scope='module')
def watched(made, tmp_path_factory):
    """The state before and after each step [(update, before, after)], and the run's result."""
    return tiny.watch(made, tmp_path_factory.mktemp('watched'))


@pytest.fixture(scope='module')
def first_stage(data, tmp_path_factory):
    """Workdir of a run whose first stage the others take over, and its results."""
    folder = tmp_path_factory.mktemp('first')
    return folder, train.run(tiny.tuned('balms', data), folder)


@pytest.mark.slow
def test_the_second_stage_moves_the_classifier_and_the_rates_alone(watched):
    steps = watched[0]
    assert [name for name, _, _ in steps] == ['train'] * 2 * STEPS + ['retrain'] * 2 * STEPS
    assert not any(before.extra for name, before, _ in steps if name == 'train')
    for _, before, after in steps[2 * STEPS :]:
        assert tiny.moved(before, after) == set(tiny.parameters(before, 'classifier'))
        ours, theirs = (state.extra['sampler']['psi'] for state in (before, after))
        assert (ours != theirs).all()
        assert np.abs(theirs - ours).max() <= 0.011  # Adam's steps are of its rate, 0.01, or less
    begin = steps[2 * STEPS][1]
    assert not begin.extra['sampler']['psi'].any()  # every image alike
    assert tiny.moved(steps[2 * STEPS - 1][2], begin) == set(tiny.parameters(begin, 'classifier'))
    assert tiny.finite(watched[1][0], watched[1][2])
    assert watched[1][2][2]['meta_loss'] > 0


@pytest.mark.slow
@pytest.mark.parametrize('at', [2, 3])
def test_it_resumes_with_the_same_bits(made, watched, tmp_path, at):
    tiny.interrupt(made, tmp_path, at=at)
    state, best, _ = tiny.run(made, tmp_path)
    assert tiny.same(state, watched[1][0])
    assert best == watched[1][1]


@pytest.mark.slow
@pytest.mark.eight_devices
def test_one_device_and_eight_train_the_same(watched, data, first_stage, tmp_path):
    made = tiny.tuned('balms', data, start_from=str(first_stage[0]))
    state, _, _ = tiny.run(made, tmp_path, mesh=sharding.make_mesh(jax.devices()[:1]))
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(watched[1][0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    'changes',
    [
        {'power': 1.0},
        {'tau': 0.0},
        {'inner_learning_rate': 5.0},
        {'sampler_optimizer.learning_rate': 0.5},
        {'redraw': True},
        {'reset_classifier': False},
    ],
    ids=str,
)
def test_switches_of_the_second_stage(watched, data, first_stage, tmp_path, changes):
    named = {f'retrain.{name}': value for name, value in changes.items()}
    made = tiny.tuned('balms', data, named, start_from=str(first_stage[0]))
    state, _, rows = tiny.run(made, tmp_path)
    assert tiny.finite(state, rows)
    base = watched[1][0]
    assert tiny.same(tiny.parameters(state, 'encoder'), tiny.parameters(base, 'encoder'))
    psi = state.extra['sampler']['psi']
    assert not tiny.same(psi, base.extra['sampler']['psi'])
    if 'power' in changes:
        begin = losses.meta_sampler_logits(tiny.COUNTS, power=1.0)
        np.testing.assert_allclose(psi, begin, atol=0.011 * 2 * STEPS)


@pytest.mark.slow
def test_the_report_draws_the_rates(watched, first_stage):
    plots = {plot['title']: plot['per_class'] for plot in first_stage[1]['plots']}
    psi = watched[1][0].extra['sampler']['psi']
    np.testing.assert_allclose(plots['learned sampling rate'], 1 / (1 + np.exp(-psi)), rtol=1e-6)


@pytest.mark.slow
def test_a_class_of_one_image_runs_to_the_end(tmp_path):
    path = tiny.npz(tmp_path / 'data.npz', **tiny.arrays((32, 16, 1)))
    state, _, rows = tiny.run(tiny.tuned('balms', path), tmp_path / 'run')
    assert tiny.finite(state, rows)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'retrain.power': -1.0}, 'retrain.power is -1.0: use 0 or more'),
        ({'retrain.inner_learning_rate': 0.0}, 'inner_learning_rate is 0.0: use a positive'),
        ({'retrain.sampler_optimizer.name': 'adm'}, "sampler_optimizer.name 'adm': did you mean"),
        ({'retrain.epochs': 0}, 'no step'),
        ({'retrain.view': 'weak'}, "unknown augmentation 'weak'"),
    ],
    ids=str,
)
def test_mistakes_are_refused_in_a_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        methods.recipe(tiny.tuned('balms', changes=changes).method, tiny.task())
    assert '\n' not in str(error.value)
