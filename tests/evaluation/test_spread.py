"""What resamples know of a variance, beside what is known of the world they come from."""

import numpy as np
import pytest

from ltjax.evaluation.bootstrap import Units, bootstrap
from ltjax.evaluation.paired import compare
from ltjax.evaluation.spread import spread

COUNTS = (150, 40, 6)


def mean_over_classes(labels, values):
    """Returns the statistic and, exactly, what each class adds to its variance."""
    members = [np.flatnonzero(labels == k) for k in range(len(COUNTS))]

    def statistic(weights):
        means = [weights[:, own] @ values[own] / weights[:, own].sum(1) for own in members]
        return {'x': np.mean(means, axis=0)}

    of_classes = [values[own].var(ddof=1) / len(own) / len(COUNTS) ** 2 for own in members]
    return statistic, np.array(of_classes)


@pytest.mark.parametrize('deviations', [(1, 1, 1), (1, 1, 0), (0, 0, 1), (30, 1, 1)])
def test_variance_and_freedom_are_those_of_the_strata(deviations):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), COUNTS)
    values = rng.normal(size=len(labels)) * np.array(deviations)[labels]
    statistic, of_classes = mean_over_classes(labels, values)
    found = bootstrap(labels, statistic, num_classes=3, num_bootstrap=4000)
    seen = spread(found['x'][:, None], found.drawn, found.strata)
    assert seen.variance[0] == pytest.approx(of_classes.sum(), rel=0.1)
    exact = of_classes.sum() ** 2 / (of_classes**2 / (np.array(COUNTS) - 1)).sum()
    assert seen.freedom[0] == pytest.approx(exact, rel=0.25)


def test_figures_that_do_not_vary_and_resamples_without_one():
    labels = np.repeat([0, 1], 5)

    def statistic(weights):
        return {'x': np.where(weights[:, 0] > 0, 1.0, np.nan)}

    found = bootstrap(labels, statistic, num_classes=2, num_bootstrap=50)
    samples = np.stack([np.ones(50), np.full(50, np.nan), found['x']], axis=1)
    with np.errstate(all='raise'):
        seen = spread(samples, found.drawn, found.strata)
    assert seen.variance.tolist() == [0, 0, 0]
    assert np.isinf(seen.freedom).all()


def test_only_units_that_a_figure_rests_on_count():
    labels = np.zeros(60, int)
    value, inside = np.random.default_rng(1).normal(size=60), np.arange(60) < 5

    def statistic(weights):
        drawn = (weights * inside).sum(1)
        return {'x': (weights * inside) @ value / np.maximum(drawn, 1)}

    found = bootstrap(labels, statistic, num_classes=1, num_bootstrap=500)
    assert found.freedom(found['x'], among=inside) == 4
    assert found.freedom(found['x']) > 20


@pytest.mark.parametrize('images', [1, 2, 4, 8])
def test_equal_methods_differ_once_in_twenty_tests_however_few_images_a_class_has(images):
    """With the degrees of freedom of all images 17 of 100 did for a class of four, and every one for a class of one."""
    rng = np.random.default_rng(images)
    labels = np.repeat([0, 1, 2], [60, 60, images])
    found = {'balanced': 0, 'tail': 0}
    for trial in range(200):
        a, b = (np.where(rng.random(len(labels)) < 0.7, labels, 0) for _ in range(2))
        metrics = {'balanced': 'balanced_accuracy', 'tail': [2]}
        for name, row in compare(labels, [a], [b], metrics, num_bootstrap=200, seed=trial).items():
            found[name] += row['p'] < 0.05
    assert all(times <= 20 for times in found.values())  # of 10 if each were exact


def test_one_patient_alone_shows_no_difference():
    """30 images of one patient of the class, all won by one method: the other patients say nothing of it."""
    labels = np.repeat([0, 1], [80, 30])
    patients = np.concatenate([np.arange(80), np.full(30, 80)])
    right, wrong = labels, np.zeros(110, int)
    seen = compare(labels, [right], [wrong], {'x': 'balanced_accuracy'}, clusters=patients)['x']
    assert seen['difference'] == 0.5
    assert seen['p'] > 0.3
    assert seen['low'] < 0 < seen['high']
    assert Units(labels, patients).strata[1].tolist() == [80]
