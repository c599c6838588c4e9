import numpy as np
import pytest
from scipy import stats

from ltjax.evaluation import bootstrap as module
from ltjax.evaluation import confusion
from ltjax.evaluation.bootstrap import (
    Units,
    bootstrap,
    clusters_of,
    interval,
    intervals,
    percentiles,
)


def test_weights_keep_the_size_of_every_class():
    labels = np.array([2, 0, 2, 2, 0, 1])
    weights = Units(labels).draw(200, np.random.default_rng(0))
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


@pytest.mark.parametrize('freedom', [1, 9, 1000, np.inf])
def test_few_units_have_wider_intervals(freedom):
    """Of a normal distribution they are Student's with n units, whose own spread is sqrt(n / (n - 1)) as large."""
    low, high = percentiles(freedom)
    wider = ((freedom + 1) / freedom) ** 0.5 if freedom < np.inf else 1
    assert low + high == pytest.approx(100)
    assert high / 100 == pytest.approx(stats.norm.cdf(stats.t.ppf(0.975, freedom) * wider))
    found = intervals(
        np.zeros(2), np.arange(101.0)[:, None].repeat(2, 1), np.array([freedom, np.inf])
    )
    assert [found[0][part] for part in ('low', 'high')] == pytest.approx([low, high])
    assert [found[1][part] for part in ('low', 'high')] == pytest.approx([2.5, 97.5])


def coverage(draw, truth, num_classes):
    """Returns in how many of 300 trials the interval holds the truth: of the mean recall, and of the last class's.

    `draw` gives clusters, labels and whether an image is recognised. The third figure is of the last class, too, as if
    there were many clusters.
    """
    rng = np.random.default_rng(1)
    held = np.zeros(3)
    for trial in range(300):
        clusters, labels, right = draw(rng)
        predictions = np.where(right, labels, (labels + 1) % num_classes)

        def statistic(weights, labels=labels, predictions=predictions):
            recall = confusion.recall(confusion.tally(weights, labels, predictions, num_classes))
            return {'balanced': recall.mean(1), 'recall': recall[:, -1]}

        samples = bootstrap(
            labels,
            statistic,
            num_classes=num_classes,
            clusters=clusters,
            num_bootstrap=300,
            seed=trial,
        )
        last = len(np.unique(clusters[labels == num_classes - 1]))
        found = [
            samples.interval('balanced', 0.0),
            interval(0.0, samples['recall'], max(1, last - 1)),
            interval(0.0, samples['recall']),
        ]
        held += [each['low'] <= truth <= each['high'] for each in found]
    return held / 300


def test_intervals_of_sixty_patients_cover():
    """Of three classes, with about six images each, whose chances differ."""

    def draw(rng):
        clusters = np.repeat(np.arange(60), 1 + rng.poisson(5, 60))
        labels = rng.integers(3, size=60)[clusters]
        return clusters, labels, rng.random(len(labels)) < rng.beta(6, 2, 60)[clusters]

    balanced, recall, normal = coverage(draw, 0.75, 3)
    assert 0.92 <= balanced <= 0.97
    assert 0.92 <= recall <= 0.97
    assert normal < recall


@pytest.mark.slow
def test_intervals_where_a_few_smears_have_most_cells():
    """They are too narrow, as docs/evaluation.md says: of 85 smears some have a hundred times the cells of others."""
    shares = np.array([0.4, 0.2, 0.12, 0.1, 0.08, 0.05, 0.03, 0.02])

    def draw(rng):
        sizes = 1 + np.exp(rng.normal(2.5, 1.0, 85)).astype(int).clip(max=400)
        clusters = np.repeat(np.arange(85), sizes)
        labels = [rng.choice(8, size=n, p=rng.dirichlet(2 * shares)) for n in sizes]
        labels = np.concatenate(labels)
        if len(np.unique(labels)) < 8:
            return draw(rng)
        chances = rng.beta(2, 1, (85, 8))[clusters, labels]
        return clusters, labels, rng.random(len(labels)) < chances

    balanced, recall, normal = coverage(draw, 2 / 3, 8)
    assert 0.88 <= balanced < 0.95
    assert 0.86 <= recall < 0.95
    assert normal < recall


def test_clusters_are_drawn_whole_and_no_class_vanishes():
    """Class 2 is in one cluster, class 1 in two, of which one has class 2 too: class 1 has a stratum of one unit."""
    labels = np.array([0, 0, 1, 2, 0, 1, 0, 0, 0])
    clusters = np.array([7, 7, 7, 7, 3, 3, 5, 5, 9])
    units = Units(labels, clusters)
    assert [members.tolist() for members in units.strata] == [[1, 3], [0], [2]]
    weights = units.draw(300, np.random.default_rng(0))[:, units.of_image]
    for number in np.unique(clusters):
        assert (
            weights[:, clusters == number].max(1) == weights[:, clusters == number].min(1)
        ).all()
    assert (weights[:, [3, 4]] == 1).all()  # alone in their strata
    assert set(weights[:, 6]) == {0, 1, 2}


def test_a_class_that_has_only_units_of_rarer_classes_is_never_missed():
    # Class 3 is in four clusters, each of which has a rarer class too, and its strata can all miss it.
    labels = np.array([3, 0, 3, 0, 3, 1, 3, 1, 0, 1, 2])
    clusters = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6])
    units = Units(labels, clusters)
    assert [len(members) for members in units.strata] == [3, 3, 1]
    weights = units.draw(2000, np.random.default_rng(0))[:, units.of_image]
    assert (weights[:, labels == 3].sum(1) > 0).all()
    assert (weights[:, :1] == 0).any()


def test_clusters_of_one_image_draw_as_images_do():
    labels = np.array([2, 0, 2, 2, 0, 1])
    draws = [
        Units(labels, clusters).draw(20, np.random.default_rng(3))
        for clusters in (None, np.arange(6))
    ]
    np.testing.assert_array_equal(*draws)


def test_groups_as_clusters():
    assert clusters_of(None) is None
    assert clusters_of(['a', 'b', '', '']) is None  # nobody shares one
    clusters = clusters_of(['a', '', 'b', 'a', ''])
    assert clusters[0] == clusters[3]
    assert len(np.unique(clusters)) == 4
    assert clusters_of(np.array([4, 4, 5])).tolist() == [0, 0, 1]


def test_copies_of_an_image_widen_no_certainty():
    """Ten copies of each image in a cluster give the interval of the images, not one that is narrower."""
    labels = np.repeat([0, 1], [40, 15])
    correct = np.random.default_rng(0).random(55) < 0.6

    def spread(times, clusters):
        def statistic(weights):
            right = np.repeat(correct, times)
            return {'accuracy': (weights * right).sum(1) / weights.sum(1)}

        samples = bootstrap(
            np.repeat(labels, times), statistic, num_classes=2, clusters=clusters, num_bootstrap=800
        )
        return samples['accuracy'].std()

    alone = spread(1, None)
    assert spread(10, np.arange(55).repeat(10)) == pytest.approx(alone, rel=0.1)
    assert spread(10, None) < 0.5 * alone
