"""PPV and NPV among patients with another mixture of classes than the test."""

import numpy as np

from ltjax.evaluation.operating_points import measures


def test_predictive_values_at_a_prevalence_are_those_of_patients_drawn_at_it():
    """Other classes than in the test are common there, and called the class more or less often."""
    rng = np.random.default_rng(0)

    def drawn(counts):
        labels = np.repeat([0, 1, 2], counts)
        means = np.array([[2.0, 0, 0], [1.5, 2, 0], [0, 0, 2]])[labels]
        weights = np.exp(means + rng.normal(size=means.shape))
        return labels, weights / weights.sum(1, keepdims=True)

    thresholds, meant = np.full(3, 0.5), [0.02, 0.97, 0.01]
    tested = drawn([4000, 18_000, 18_000])
    got = measures(*tested, thresholds, meant)(np.ones((1, 40_000), int))
    there = measures(*drawn([2000, 97_000, 1000]), thresholds)(np.ones((1, 100_000), int))
    for name in ('ppv', 'npv'):
        np.testing.assert_allclose(got[f'{name} at prevalence'], there[name], rtol=0.06)
    assert abs(got['ppv'][0, 0] - there['ppv'][0, 0]) > 0.1


def test_a_class_that_is_meant_and_not_tested_leaves_predictive_values_open():
    labels, probabilities = np.array([0, 0, 2, 2]), np.full((4, 3), 1 / 3)
    for share, defined in ((0.1, False), (0.0, True)):
        meant = [0.5, share, 0.5 - share]
        got = measures(labels, probabilities, np.full(3, 0.3), meant)(np.ones((1, 4), int))
        assert np.isfinite(got['ppv at prevalence'][0, [0, 2]]).all() == defined
