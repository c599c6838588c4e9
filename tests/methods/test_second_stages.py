"""Whole runs of two stages: a part of the classifier trained, values tried, means taken."""

import numpy as np
import pytest

import tiny
from ltjax import losses
from ltjax.errors import UserError
from ltjax.run import train

pytestmark = pytest.mark.usefixtures('traced_once')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.mark.slow
def test_lws_learns_the_factors_alone(data, tmp_path):
    steps, _ = tiny.watch(tiny.tuned('lws', data), tmp_path)
    second = [step for step in steps if not tiny.same(step[1].model, step[2].model)][-1]
    assert tiny.moved(*second[1:]) == {'classifier.scale.value'}
    first = next(iter(steps))
    assert first[1].model['classifier']['scale'][...].tolist() == [1.0, 1.0, 1.0]


@pytest.fixture(scope='module')
def adjusted(data, tmp_path_factory):
    made = tiny.config('tau_norm', data)
    folder = tmp_path_factory.mktemp('tau')
    return made, folder, tiny.run(made, folder)


@pytest.mark.slow
def test_a_round_without_steps_tries_a_value_and_the_best_is_kept(adjusted):
    made, _, (state, best, rows) = adjusted
    tried = [row for row in rows if row['stage'] == 'tau_norm']
    assert [row['tau'] for row in tried] == list(made.method.adjust.tau)
    assert [row['step'] for row in tried] == list(range(tried[0]['step'], tried[0]['step'] + 11))
    scores = [row['val_balanced_accuracy'] for row in tried]
    assert best['round'] == int(np.argmax(scores))
    tau = made.method.adjust.tau[best['round']]
    trained = state.extra['classifier']
    expected = losses.tau_normalised(trained['kernel'].T, tau=tau).T
    np.testing.assert_allclose(state.model['classifier']['kernel'][...], expected, rtol=1e-5)
    np.testing.assert_array_equal(state.model['classifier']['bias'][...], np.zeros(3))


@pytest.mark.slow
@pytest.mark.parametrize('at', [1, 3, 7])
def test_trying_values_goes_on_after_an_interruption(adjusted, tmp_path, at):
    made, _, (state, best, rows) = adjusted
    tiny.interrupt(made, tmp_path, at=at)
    resumed, again, more = tiny.run(made, tmp_path)
    assert again == best
    assert tiny.same(state, resumed)
    assert tiny.timeless(more) == tiny.timeless(rows)[at:]


@pytest.mark.slow
def test_nearest_means_are_those_of_the_training_features(data, tmp_path):
    made = tiny.config('ncm', data, {'method.adjust.rules': ('cl2n_cos', 'un_l2')})
    trained = tiny.training(made, tmp_path)
    state, best, rows = tiny.run(made, tmp_path / 'run')
    trained.checkpoints.close()
    assert [row['rule'] for row in rows[-2:]] == ['cl2n_cos', 'un_l2']
    features = trained.train_features(state)
    transform, metric = made.method.adjust.rules[best['round']].split('_')
    means = losses.nearest_means(features, trained.train_labels, 3, transform=transform)
    _, logits = trained.predict(state, trained.data.images_of('val'))
    val, _ = trained.predict(state, trained.data.images_of('val'))
    expected = losses.nearest_mean_logits(val, means, transform=transform, metric=metric)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_nearest_means_take_the_first_stage_of_cross_entropy(data, tmp_path):
    changes = {'method.adjust.rules': ('un_l2',)}
    whole, best, _ = tiny.run(tiny.config('ncm', data, changes), tmp_path / 'whole')
    train.run(tiny.config('cross_entropy', data), tmp_path / 'first')
    borrows = changes | {'start_from': str(tmp_path / 'first')}
    borrowed, again, _ = tiny.run(tiny.config('ncm', data, borrows), tmp_path / 'second')
    assert tiny.same(whole, borrowed)
    assert again == best


@pytest.mark.slow
def test_statistics_that_are_trained_cannot_be_lacking(data, tmp_path):
    """TDE's classifier has a linear one's kernel, but follows the features' mean direction while it trains."""
    train.run(tiny.config('cross_entropy', data), tmp_path / 'first')
    made = tiny.config('tde', data, {'start_from': str(tmp_path / 'first')})
    with pytest.raises(UserError, match='does not fit this network at model.classifier.alpha'):
        train.run(made, tmp_path / 'second')
