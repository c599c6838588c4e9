import numpy as np
import pytest
from scipy import stats

from ltjax.errors import UserError
from ltjax.evaluation.bootstrap import Units
from ltjax.evaluation.paired import compare, holm
from ltjax.evaluation.spread import spread

METRICS = {'balanced': 'balanced_accuracy', 'f1': 'macro_f1', 'tail': [1, 2]}


def fake_runs(labels, rates, seed):
    """One run of predictions for each rate of correct answers."""
    rng = np.random.default_rng(seed)
    wrong = (labels + rng.integers(1, 3, size=len(labels))) % 3
    return [np.where(rng.random(len(labels)) < rate, labels, wrong) for rate in rates]


def test_a_method_does_not_differ_from_itself():
    labels = np.repeat(np.arange(3), [50, 20, 10])
    runs = fake_runs(labels, [0.7, 0.6], 0)
    for result in compare(labels, runs, runs, METRICS, num_bootstrap=50).values():
        assert result['a'] == result['b']
        assert result['difference'] == result['low'] == result['high'] == result['seed_std'] == 0.0
        assert result['p'] == 1.0


def test_difference_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1])
    a = [np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 0, 0, 1, 0])]  # recalls 3/4 1 and 1 1/2
    b = [np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 0, 0, 0])]  # recalls 1/2 1 and 1 0
    metrics = {
        'balanced': 'balanced_accuracy',
        'class 1': [1],
        'own': lambda counts: counts.correct[..., 0] / 4,
    }
    results = compare(labels, a, b, metrics, num_bootstrap=20)
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
    results = compare(labels, logits, b, METRICS, num_bootstrap=50)
    assert results == compare(labels, a, b, METRICS, num_bootstrap=50)
    assert results['balanced']['seed_std'] is None
    assert results['balanced']['low'] > 0


def test_pairing_is_tighter_than_two_single_intervals():
    labels = np.repeat(np.arange(3), 40)
    (a,) = fake_runs(labels, [0.7], 3)
    b = a.copy()
    b[:4] = (labels[:4] + 1) % 3  # the methods disagree on at most four images
    paired = compare(labels, [a], [b], {'x': 'accuracy'}, num_bootstrap=300)['x']
    truth = compare(labels, [a], [labels], {'x': 'accuracy'}, num_bootstrap=300)['x']
    assert paired['high'] - paired['low'] < 0.5 * (truth['high'] - truth['low'])


def test_undefined_difference_is_none():
    labels = np.array([0, 0, 1])
    results = compare(labels, [labels], [labels], {'class 7': [7]}, num_bootstrap=5)
    assert set(results['class 7'].values()) == {None}


def test_runs_that_do_not_pair_up():
    labels = np.array([0, 1])
    with pytest.raises(ValueError, match='pair up'):
        compare(labels, [labels], [labels, labels], METRICS)
    with pytest.raises(ValueError, match='labelled images'):
        compare(labels, [labels], [labels[:1]], METRICS)
    with pytest.raises(UserError, match='did you mean macro_f1'):
        compare(labels, [labels], [labels], {'x': 'macro_f2'})


def test_runs_of_thousands_of_classes():
    labels = np.arange(3000).repeat(2)
    half = np.where(np.arange(6000) % 2, labels, (labels + 1) % 3000)
    results = compare(
        labels, [labels], [half], METRICS | {'kappa': 'quadratic_kappa'}, num_bootstrap=3
    )
    assert results['balanced']['difference'] == results['tail']['difference'] == 0.5
    assert 0 < results['kappa']['difference'] < 0.01


def world(rng, seeds, between_seeds):
    """Draws a test set of 60 patients, and runs of two methods on it.

    Errors come from the class, the patient (for each method, and common to both), the image, the training and chance.

    Returns:
      labels, patients, runs of the better method, runs of the other.
    """
    patients = np.arange(60).repeat(rng.integers(2, 9, 60))
    labels = rng.choice(3, len(patients), p=[0.6, 0.3, 0.1])
    labels[:3] = range(3)
    of_both, of_image = rng.normal(0, 0.8, 60), rng.normal(0, 1, len(labels))
    runs = []
    for better in (0.3, 0.0):
        ease = np.array([1.5, 0.8, 0.0])[labels] + better + of_image
        ease += (of_both + rng.normal(0, 0.8, 60))[patients]
        luck = rng.normal(0, between_seeds, (seeds, 1)) + rng.logistic(size=(seeds, len(labels)))
        runs.append(list(np.where(ease + luck > 0, labels, (labels + 1) % 3)))
    return labels, patients, *runs


def difference(between_seeds):
    """Returns the difference in balanced accuracy of the two methods on all patients there could be."""
    deviation = np.sqrt(2 * 0.8**2 + 1 + between_seeds**2)
    normal, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    recalls = [
        [
            weights @ (1 / (1 + np.exp(-(ease + better + deviation * normal))))
            for ease in (1.5, 0.8, 0)
        ]
        for better in (0.3, 0)
    ]
    return np.mean(recalls[0]) - np.mean(recalls[1])


@pytest.mark.slow
@pytest.mark.parametrize(('seeds', 'between_seeds'), [(1, 0.0), (3, 0.15), (5, 0.5)])
def test_intervals_cover_the_truth_of_patients_and_seeds(seeds, between_seeds):
    rng, truth, covered, taken_as_images = np.random.default_rng(1), difference(between_seeds), 0, 0
    trials = 400
    for trial in range(trials):
        labels, patients, a, b = world(rng, seeds, between_seeds)
        for clusters in (patients, None) if seeds == 1 else (patients,):
            found = compare(
                labels,
                a,
                b,
                {'x': 'balanced_accuracy'},
                clusters=clusters,
                num_bootstrap=120,
                seed=trial,
            )['x']
            inside = found['low'] <= truth <= found['high']
            if clusters is None:
                taken_as_images += inside
            else:
                covered += inside
    assert 0.92 <= covered / trials <= 0.97
    assert seeds > 1 or taken_as_images / trials < 0.92


def test_the_interval_by_hand():
    """The module's formula, from resamples drawn here, for three seeds that differ more than images explain."""
    labels = np.repeat([0, 1], 40)
    runs = [np.where(np.arange(80) % 5 < right, labels, 1 - labels) for right in (4, 2, 3)]
    other = [np.where(np.arange(80) % 4 < 1, labels, 1 - labels)] * 3
    found = compare(labels, runs, other, {'x': 'accuracy'}, num_bootstrap=500, seed=4)['x']
    weights = Units(labels).draw(500, np.random.default_rng(4))
    gains = np.stack([(run == labels) * 1.0 - (other[0] == labels) for run in runs])
    resampled, values = weights @ gains.T / 80, gains.mean(1)
    seen = spread(resampled.mean(1)[:, None], weights, Units(labels).strata)
    images, freedom_of_images = seen.variance[0], seen.freedom[0]
    both = 1.5 * (resampled.var(0).mean() - resampled.mean(1).var())
    between = values.var(ddof=1)
    total = images + (between - both) / 3
    freedom = total**2 / (images**2 / freedom_of_images + (between / 3) ** 2 / 2)
    half = stats.t.ppf(0.975, freedom) * total**0.5
    assert found['difference'] == pytest.approx(values.mean())
    assert (found['low'], found['high']) == pytest.approx(
        (values.mean() - half, values.mean() + half)
    )
    assert found['p'] == pytest.approx(2 * stats.t.sf(values.mean() / total**0.5, freedom))
    assert found['p'] > 0.05 > compare(labels, runs[:1], other[:1], {'x': 'accuracy'})['x']['p']


def test_holm_by_hand():
    assert holm([]) == []
    assert holm([0.04]) == [0.04]
    # 0.01 x 4, 0.02 x 3, 0.03 x 2 which is not below it, 0.9.
    assert holm([0.9, 0.01, 0.03, 0.02]) == pytest.approx([0.9, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]


def test_an_interval_ends_where_no_difference_can_be():
    """Two images a class leave so few degrees of freedom that the quantile of t is in the hundreds."""
    labels = np.array([0, 0, 1, 1])
    found = compare(labels, [labels], [np.array([0, 1, 1, 0])], {'recall': [1]})
    assert -1 <= found['recall']['low'] <= found['recall']['high'] <= 1
