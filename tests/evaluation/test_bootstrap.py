import numpy as np
import pytest

from ltjax.errors import UserError
from ltjax.evaluation import bootstrap as module
from ltjax.evaluation import confusion
from ltjax.evaluation.bootstrap import (
    bootstrap,
    interval,
    paired_bootstrap,
    stratified_weights,
)


def test_weights_keep_the_size_of_every_class():
    labels = np.array([2, 0, 2, 2, 0, 1])
    weights = stratified_weights(labels, 200, np.random.default_rng(0))
    for k, size in ((0, 2), (1, 1), (2, 3)):
        assert (weights[:, labels == k].sum(1) == size).all()
    # Drawn with replacement: n images of a class are each drawn once on average.
    np.testing.assert_allclose(weights.mean(0), 1.0, atol=0.2)
    assert weights[:, 0].max() == 3


def test_recall_samples_have_the_binomial_spread():
    labels = np.repeat([0, 1], [100, 40])
    correct = np.concatenate([np.arange(100) < 80, np.arange(40) < 10])
    samples = bootstrap(
        labels,
        lambda w: {'recall': np.stack([(w * correct)[:, labels == k].mean(1) for k in (0, 1)], 1)},
        num_classes=2,
        num_bootstrap=4000,
    )['recall']
    np.testing.assert_allclose(samples.mean(0), [0.8, 0.25], atol=0.005)
    np.testing.assert_allclose(samples.std(0), [0.04, np.sqrt(0.25 * 0.75 / 40)], rtol=0.05)


def test_seed_decides_the_samples_and_chunks_keep_their_number(monkeypatch):
    labels = np.repeat([0, 1], 20)
    scores = np.linspace(0, 1, 40)

    def samples(seed):
        result = bootstrap(
            labels, lambda w: {'mean': w @ scores}, num_classes=2, num_bootstrap=25, seed=seed
        )
        return result['mean']

    np.testing.assert_array_equal(samples(3), samples(3))
    assert (samples(3) != samples(4)).any()
    monkeypatch.setattr(module, '_CHUNK_SIZE', 40 * 4)
    assert samples(3).shape == (25,)
    np.testing.assert_array_equal(samples(3), samples(3))


def test_few_classes_draw_as_if_matrices_were_held(monkeypatch):
    """What a seed draws depends on the chunks: published intervals must stay."""
    monkeypatch.setattr(module, '_CHUNK_SIZE', 1000)
    labels = np.arange(40)

    def chunks(num_classes):
        rows = []
        bootstrap(
            labels,
            lambda w: rows.append(len(w)) or {'x': w[:, 0]},
            num_classes=num_classes,
            num_bootstrap=50,
        )
        return rows

    assert chunks(5) == [25, 25]
    assert chunks(10) == [10] * 5
    assert chunks(200) == [1] * 50
    assert chunks(201) == [4] * 12 + [2]


def test_no_resamples_is_a_mistake():
    with pytest.raises(ValueError, match='at least 1'):
        bootstrap(np.array([0]), lambda w: {'x': w[:, 0]}, num_classes=1, num_bootstrap=0)


def test_intervals_cover_the_truth_about_nineteen_times_in_twenty():
    rng = np.random.default_rng(5)
    truth = np.array([0.9, 0.6, 0.75])
    labels = np.repeat(np.arange(3), 60)
    covered = 0
    for trial in range(200):
        predictions = np.where(rng.random(180) < truth[labels], labels, (labels + 1) % 3)

        def statistic(weights, predictions=predictions):
            counts = confusion.tally(weights, labels, predictions, 3)
            return {'balanced': confusion.balanced_accuracy(counts)}

        samples = bootstrap(labels, statistic, num_classes=3, num_bootstrap=200, seed=trial)
        bounds = interval(0.0, samples['balanced'])
        covered += bounds['low'] <= truth.mean() <= bounds['high']
    assert 0.89 <= covered / 200 <= 0.99


def test_interval_of_an_undefined_value():
    assert interval(np.nan, np.full(3, np.nan)) == {'value': None, 'low': None, 'high': None}
    assert interval(2.0, np.linspace(0, 1, 101)) == {
        'value': 2.0,
        'low': pytest.approx(0.025),
        'high': pytest.approx(0.975),
    }


METRICS = {'balanced': 'balanced_accuracy', 'f1': 'macro_f1', 'tail': [1, 2]}


def fake_runs(labels, rates, seed):
    """One run of predictions for each rate of correct answers."""
    rng = np.random.default_rng(seed)
    wrong = (labels + rng.integers(1, 3, size=len(labels))) % 3
    return [np.where(rng.random(len(labels)) < rate, labels, wrong) for rate in rates]


def test_a_method_does_not_differ_from_itself():
    labels = np.repeat(np.arange(3), [50, 20, 10])
    runs = fake_runs(labels, [0.7, 0.6], 0)
    for result in paired_bootstrap(labels, runs, runs, METRICS, num_bootstrap=50).values():
        assert result['a'] == result['b']
        assert result['difference'] == result['low'] == result['high'] == result['seed_std'] == 0.0


def test_difference_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1])
    a = [np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 0, 0, 1, 0])]  # recalls 3/4 1 and 1 1/2
    b = [np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 0, 0, 0])]  # recalls 1/2 1 and 1 0
    metrics = {
        'balanced': 'balanced_accuracy',
        'class 1': [1],
        'own': lambda counts: counts.correct[..., 0] / 4,
    }
    results = paired_bootstrap(labels, a, b, metrics, num_bootstrap=20)
    # The seeds differ by 1/8 and 1/4.
    assert results['balanced']['difference'] == pytest.approx(3 / 16)
    assert results['balanced']['seed_std'] == pytest.approx(np.std([1 / 8, 1 / 4], ddof=1))
    assert results['class 1']['difference'] == pytest.approx(1 / 4)
    assert (results['class 1']['a'], results['class 1']['b']) == (0.75, 0.5)
    assert results['own']['difference'] == pytest.approx(1 / 8)


def test_logits_compare_like_their_predictions_and_one_seed_has_no_spread():
    labels = np.repeat(np.arange(3), 10)
    a, b = fake_runs(labels, [0.9], 1), fake_runs(labels, [0.5], 2)
    logits = [np.eye(3)[run] for run in a]
    results = paired_bootstrap(labels, logits, b, METRICS, num_bootstrap=50)
    assert results == paired_bootstrap(labels, a, b, METRICS, num_bootstrap=50)
    assert results['balanced']['seed_std'] is None
    assert results['balanced']['low'] > 0


def test_pairing_is_tighter_than_two_single_intervals():
    labels = np.repeat(np.arange(3), 40)
    (a,) = fake_runs(labels, [0.7], 3)
    b = a.copy()
    b[:4] = (labels[:4] + 1) % 3  # the methods disagree on at most four images
    paired = paired_bootstrap(labels, [a], [b], {'x': 'accuracy'}, num_bootstrap=300)['x']
    truth = paired_bootstrap(labels, [a], [labels], {'x': 'accuracy'}, num_bootstrap=300)['x']
    assert paired['high'] - paired['low'] < 0.5 * (truth['high'] - truth['low'])


def test_undefined_difference_is_none():
    labels = np.array([0, 0, 1])
    results = paired_bootstrap(labels, [labels], [labels], {'class 7': [7]}, num_bootstrap=5)
    assert set(results['class 7'].values()) == {None}


def test_runs_that_do_not_pair_up():
    labels = np.array([0, 1])
    with pytest.raises(ValueError, match='pair up'):
        paired_bootstrap(labels, [labels], [labels, labels], METRICS)
    with pytest.raises(ValueError, match='labelled images'):
        paired_bootstrap(labels, [labels], [labels[:1]], METRICS)
    with pytest.raises(UserError, match='did you mean macro_f1'):
        paired_bootstrap(labels, [labels], [labels], {'x': 'macro_f2'})


def test_runs_of_thousands_of_classes():
    labels = np.arange(3000).repeat(2)
    half = np.where(np.arange(6000) % 2, labels, (labels + 1) % 3000)
    results = paired_bootstrap(
        labels, [labels], [half], METRICS | {'kappa': 'quadratic_kappa'}, num_bootstrap=3
    )
    assert results['balanced']['difference'] == results['tail']['difference'] == 0.5
    assert 0 < results['kappa']['difference'] < 0.01
