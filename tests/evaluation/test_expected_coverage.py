"""Where coverage may lie by chance: as often as it says, in worlds where the promise holds by construction."""

import numpy as np
import pytest

from ltjax.evaluation.expected_coverage import expected_coverage
from ltjax.evaluation.prediction_sets import fit, measures

pytestmark = pytest.mark.slow

GROUPS = {'head': (0,), 'tail': (1, 2)}
COUNTS = (60, 30, 12)


def world(rng, counts):
    """Labels and probabilities of images that say something of their class."""
    labels = np.repeat(np.arange(3), counts)
    logits = 1.5 * np.eye(3)[labels] + rng.normal(size=(len(labels), 3))
    weights = np.exp(logits)
    return labels, weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ('method', 'names'),
    [
        ('marginal', ['coverage']),
        ('class_conditional', ['head coverage', 'tail coverage']),
    ],
)
def test_ninety_five_of_a_hundred_coverages_lie_within(method, names):
    rng = np.random.default_rng(0)
    inside = np.zeros((400, len(names)), bool)
    for row in inside:
        labels, probabilities = world(rng, COUNTS)
        sets = fit(labels, probabilities, None, method=method)
        tested, of_test = world(rng, COUNTS)
        once = np.ones((1, len(tested)), int)
        found = measures(tested, sets.sets(of_test), GROUPS)(once)
        ranges = expected_coverage(sets, tested, None, GROUPS)
        for k, name in enumerate(names):
            row[k] = ranges[name]['low'] <= found[name][0] <= ranges[name]['high']
    assert (inside.mean(0) > 0.92).all()
    assert (inside.mean(0) < 0.99).all()


def test_what_nothing_is_promised_of():
    labels, probabilities = world(np.random.default_rng(0), COUNTS)
    sets = fit(labels, probabilities, None, method='clustered')
    assert expected_coverage(sets, labels, None, GROUPS) == {}
    sets = fit(labels, probabilities, None, method='marginal')
    assert list(expected_coverage(sets, labels, None, GROUPS)) == ['coverage']


def test_a_class_in_every_set_and_one_without_test_images():
    labels, probabilities = world(np.random.default_rng(0), (60, 30, 5))
    sets = fit(labels, probabilities, None, method='class_conditional')
    said = expected_coverage(sets, np.array([0] * 9 + [2] * 9), None, GROUPS)
    assert said['class coverage'][1] is None
    assert said['class coverage'][2] == said['tail coverage'] == {'low': 1.0, 'high': 1.0}
    assert said['class coverage'][0]['low'] < 0.9
    alone = expected_coverage(sets, np.zeros(9, int), None, GROUPS)
    assert 'tail coverage' not in alone


def test_images_of_one_patient_are_one():
    labels, probabilities = world(np.random.default_rng(0), COUNTS)
    codes = np.arange(len(labels)) // 6
    by_image = fit(labels, probabilities, None, method='marginal')
    by_patient = fit(labels, probabilities, codes, method='marginal')
    narrow = expected_coverage(by_image, labels, None, GROUPS)['coverage']
    wide = expected_coverage(by_patient, labels, codes, GROUPS)['coverage']
    assert wide['high'] - wide['low'] > narrow['high'] - narrow['low']
