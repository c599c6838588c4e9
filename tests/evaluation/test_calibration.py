import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from ltjax.evaluation.bootstrap import Units, bootstrap
from ltjax.evaluation.calibration import bin_accuracies, equal_mass, measures, reliability

GROUPS = {'head': (0, 3), 'medium': (2,), 'tail': (1, 4)}
ONE_HOT = np.eye(3)[[0, 1, 2, 0]]


def problem(num_images=90, num_classes=5, decimals=12, seed=0):
    """Class 1 has no images; with one decimal nearly every score is a tie."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_images)
    labels[labels == 1] = 0
    scores = np.round(rng.random((num_images, num_classes)) + 0.1, decimals)
    scores[np.arange(num_images), labels] += 0.5
    return labels, scores / scores.sum(1, keepdims=True)


def point(labels, probabilities, groups=None, bins=15):
    found = measures(labels, probabilities, groups or {}, bins)(np.ones((1, len(labels)), int))
    return {name: value.item() for name, value in found.items()}


def literal_bins(scores, bins):
    """Counts the edges below each score; they are the scores at or just below each quantile."""
    ordered = sorted(scores.tolist())
    edges = [ordered[i * (len(ordered) - 1) // bins] for i in range(1, bins)]
    return np.array([sum(score > edge for edge in sorted(set(edges))) for score in scores])


def literal_error(scores, hits, places, drawn):
    """The calibration error of the images `drawn`, each as often as it is listed."""
    total = 0.0
    for place in set(places[drawn]):
        inside = [i for i in drawn if places[i] == place]
        total += len(inside) * abs(np.mean(scores[inside]) - np.mean(hits[inside]))
    return total / len(drawn)


def literal(labels, probabilities, groups, bins, row):
    """Repeats each image as often as it is drawn; the bins are those of all images once."""
    everyone = np.arange(len(labels))
    drawn = np.repeat(everyone, row)
    num_classes = probabilities.shape[1]
    confidences = probabilities.max(1)
    hits = (probabilities.argmax(1) == labels).astype(float)
    by_class = {
        k: literal_error(
            probabilities[:, k],
            (labels == k) * 1.0,
            literal_bins(probabilities[:, k], bins),
            drawn,
        )
        for k in set(labels.tolist())
    }
    found = {}
    for name, classes in {'': range(num_classes), **groups}.items():
        members = everyone[np.isin(labels, list(classes))]
        places = np.full(len(labels), -1)
        places[members] = literal_bins(confidences[members], bins)
        own = drawn[np.isin(drawn, members)]
        one_hot = np.eye(num_classes)[labels[own]]
        brier = ((probabilities[own] - one_hot) ** 2).sum(1).mean()
        found |= {
            f'{name} top_label_ece'.strip(): literal_error(confidences, hits, places, own),
            f'{name} class_wise_ece'.strip(): np.mean(
                [by_class[k] for k in classes if k in by_class]
            ),
            f'{name} brier'.strip(): brier,
            f'{name} log_loss'.strip(): -np.log(probabilities[own, labels[own]]).mean(),
        }
    return found


@pytest.mark.parametrize('bins', [1, 4, 15, 300])
@pytest.mark.parametrize('decimals', [1, 12])
def test_the_same_as_of_images_repeated_by_their_weights(decimals, bins):
    """More bins than images: each score has its own."""
    labels, probabilities = problem(decimals=decimals)
    weights = Units(labels).draw(3, np.random.default_rng(1))
    got = measures(labels, probabilities, GROUPS, bins)(weights)
    for r, row in enumerate(weights):
        expected = literal(labels, probabilities, GROUPS, bins, row)
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            assert got[name][r] == pytest.approx(value, abs=1e-12), name


def test_by_hand():
    labels = np.array([0, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7]])
    found = point(labels, probabilities, {'head': (0,), 'tail': (1,)}, bins=2)
    # Confidences 0.6 right, 0.7 wrong | 0.8 wrong, 0.9 right: 1.3 - 1 and 1.7 - 1 images.
    assert found['top_label_ece'] == pytest.approx((0.3 + 0.7) / 4)
    # Of class 0: 0.3 yes, 0.4 no | 0.8 no, 0.9 yes. Of class 1 the complement, the same cut.
    assert found['class_wise_ece'] == pytest.approx((0.3 + 0.7) / 4)
    assert found['brier'] == pytest.approx(2 * (0.01 + 0.16 + 0.64 + 0.49) / 4)
    assert found['log_loss'] == pytest.approx(-np.log([0.9, 0.6, 0.2, 0.3]).mean())
    # Of the head 0.7 is wrong, 0.9 is right; of the tail 0.6 is right, 0.8 is wrong.
    assert found['head top_label_ece'] == pytest.approx((0.7 + 0.1) / 2)
    assert found['tail top_label_ece'] == pytest.approx((0.4 + 0.8) / 2)
    assert found['tail brier'] == pytest.approx(2 * (0.16 + 0.64) / 2)
    assert found['head log_loss'] == pytest.approx(-np.log([0.9, 0.3]).mean())


def test_scores_are_those_of_scikit_learn():
    labels, probabilities = problem(decimals=1)
    probabilities[0] = np.eye(5)[(labels[0] + 1) % 5]  # the true class has probability zero
    found = point(labels, probabilities)
    expected = sk.log_loss(labels, probabilities, labels=range(5))
    assert found['log_loss'] == pytest.approx(expected, rel=1e-12)
    brier = sum(sk.brier_score_loss(labels == k, probabilities[:, k]) for k in range(5))
    assert found['brier'] == pytest.approx(brier, rel=1e-12)


@pytest.mark.parametrize('steps', [2**4, 2**40])
@pytest.mark.parametrize('bins', [3, 7, 10])
def test_bins_are_those_of_scikit_learn(steps, bins):
    """Of few steps there are many ties; they are exact, since scikit-learn's edges are rounded."""
    rng = np.random.default_rng(0)
    confidences = 0.5 + rng.integers(1, steps, 90) / (2 * steps)
    right = rng.random(90) < confidences
    accuracies, means = calibration_curve(right, confidences, n_bins=bins, strategy='quantile')
    probabilities = np.stack([confidences, 1 - confidences], axis=1)
    rows = reliability(np.where(right, 0, 1), probabilities, {}, bins)['all']['bins']
    np.testing.assert_allclose([row['accuracy']['value'] for row in rows], accuracies)
    np.testing.assert_allclose([row['confidence'] for row in rows], means)


def test_errors_are_those_of_netcal_and_mapie():
    """Recorded from netcal 1.4.0 and MAPIE 1.6.0, which gave the same to 1e-16, by

    ece = netcal.metrics.ECE(10, equal_intervals=False)
    ece.measure(p, labels)
    numpy.mean([ece.measure(p[:, k], (labels == k) * 1) for k in range(4)])

    order = numpy.argsort(p.max(1))
    right = (p.argmax(1) == labels) * 1
    mapie.metrics.calibration.expected_calibration_error(
        right[order], p.max(1)[order], num_bins=10, split_strategy='array split'
    )

    and so on of each class. On these, split_strategy='quantile' gives 0.1024: its bins are nine, and one of the least
    score. MAPIE's top_label_ece gives 0.2269: it bins the images of each predicted class apart.
    """
    draws = random.Random(0)
    logits = np.array([[3 * draws.random() for _ in range(4)] for _ in range(120)])
    labels = np.array([int(4 * draws.random()) for _ in range(120)])
    logits[np.arange(60), labels[:60]] += 1.5
    p = np.exp(logits)
    p /= p.sum(1, keepdims=True)
    found = point(labels, p, bins=10)
    assert found['top_label_ece'] == pytest.approx(0.09393531973803464, rel=1e-12)
    assert found['class_wise_ece'] == pytest.approx(0.10892510516370314, rel=1e-12)


def test_certainty_that_is_right_and_certainty_that_is_wrong():
    right = point(np.array([0, 1, 2, 0]), ONE_HOT)
    assert right['log_loss'] == pytest.approx(2.2e-16, rel=0.01)
    assert {right[name] for name in ('top_label_ece', 'class_wise_ece', 'brier')} == {0.0}
    wrong = point(np.array([1, 2, 0, 1]), ONE_HOT)
    assert wrong['log_loss'] == pytest.approx(36.04, abs=0.01)
    assert (wrong['top_label_ece'], wrong['brier']) == (1.0, 2.0)


def test_groups_and_resamples_without_images_are_undefined():
    labels, probabilities = problem()
    groups = {'head': (0,), 'medium': (2, 3, 4), 'tail': (1,)}
    weights = np.ones((2, len(labels)), int)
    weights[1, labels == 0] = 0
    found = measures(labels, probabilities, groups)(weights)
    for name in ('top_label_ece', 'class_wise_ece', 'brier', 'log_loss'):
        assert np.isnan(found[f'tail {name}']).all()
        assert np.isfinite(found[f'medium {name}']).all()
        assert np.isfinite(found[name]).all()
    assert np.isnan(found['head brier']).tolist() == [False, True]
    # Each class is measured on all images: that none is its own is no obstacle.
    assert np.isfinite(found['head class_wise_ece']).all()
    assert 'tail' not in reliability(labels, probabilities, groups)
    assert 'tail' not in bin_accuracies(labels, probabilities, groups)(weights)


@given(
    scores=st.lists(st.integers(0, 20), min_size=1, max_size=60),
    bins=st.integers(1, 30),
)
def test_bins_are_full_ordered_and_never_divide_a_tie(scores, bins):
    scores = np.array(scores) / 20
    places = equal_mass(scores, bins)
    assert sorted(set(places.tolist())) == list(range(places.max() + 1))
    assert places.max() < bins
    order = np.argsort(scores)
    assert (np.diff(places[order]) >= 0).all()
    assert (np.diff(places[order])[np.diff(scores[order]) == 0] == 0).all()


@given(number=st.integers(1, 200), bins=st.integers(1, 30))
def test_without_ties_bins_are_equal_to_within_one_image(number, bins):
    sizes = np.bincount(equal_mass(np.random.default_rng(number).permutation(number), bins))
    assert len(sizes) == min(number, bins)
    assert np.ptp(sizes) <= 1


def test_reliability_is_what_the_error_is_made_of_and_goes_into_json():
    labels, probabilities = problem(200)
    weights = bin_accuracies(labels, probabilities, GROUPS, 8)
    samples = bootstrap(labels, weights, num_classes=5, num_bootstrap=50)
    found = reliability(labels, probabilities, GROUPS, 8, samples)
    assert json.loads(json.dumps(found)) == found
    errors = point(labels, probabilities, GROUPS, 8)
    ones = weights(np.ones((1, len(labels)), int))
    for name, panel in found.items():
        rows = panel['bins']
        gaps = [row['images'] * abs(row['accuracy']['value'] - row['confidence']) for row in rows]
        number = sum(row['images'] for row in rows)
        prefix = '' if name == 'all' else f'{name} '
        assert sum(gaps) / number == pytest.approx(errors[f'{prefix}top_label_ece'])
        assert ones[name][0].tolist() == [row['accuracy']['value'] for row in rows]
        assert sum(panel['histogram']) == number
        for row in rows:
            accuracy = row['accuracy']
            assert accuracy['low'] <= accuracy['value'] <= accuracy['high']
    assert found['all']['histogram'] == [
        int(((probabilities.max(1) >= low) & (probabilities.max(1) < low + 0.05)).sum())
        for low in np.arange(20) / 20
    ]


def test_reliability_without_resamples_and_with_bins_that_are_never_drawn():
    labels, probabilities = np.array([0, 1, 2, 0]), ONE_HOT * 0.7 + 0.1
    plain = reliability(labels, probabilities, {})['all']
    accuracy = {'value': 1.0, 'low': None, 'high': None}
    assert plain['bins'] == [{'confidence': pytest.approx(0.8), 'accuracy': accuracy, 'images': 4}]
    nothing = {'all': np.full((5, 1), np.nan)}
    assert reliability(labels, probabilities, {}, samples=nothing)['all'] == plain
    once = {'all': np.array([[np.nan], [0.25], [np.nan]])}
    row = reliability(labels, probabilities, {}, samples=once)['all']['bins'][0]
    assert row['accuracy'] == {'value': 1.0, 'low': 0.25, 'high': 0.25}


def test_a_probability_that_rounding_put_above_one_is_counted():
    probabilities = np.array([[np.nextafter(1, 2), 0.0], [0.0, 1.0]])
    assert reliability(np.array([0, 1]), probabilities, {})['all']['histogram'][-1] == 2


def test_given_the_true_class_calibrated_probabilities_look_too_confident_on_the_tail():
    """What `reliability` says of its groups: labels are drawn from the probabilities themselves."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20000, 3)) + np.log([0.8, 0.15, 0.05])
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (probabilities.cumsum(1) > rng.random((20000, 1))).argmax(1)
    found = reliability(labels, probabilities, {'head': (0,), 'tail': (2,)})
    over = {
        name: np.average(
            [row['confidence'] - row['accuracy']['value'] for row in panel['bins']],
            weights=[row['images'] for row in panel['bins']],
        )
        for name, panel in found.items()
    }
    assert abs(over['all']) < 0.01
    assert over['head'] < -0.1
    assert over['tail'] > 0.3


def test_of_few_images_the_error_of_calibrated_probabilities_is_far_from_zero():
    """As the module says: resampled it is larger still, whereas the log loss keeps its place."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 100)
    labels = (probabilities.cumsum(1) > rng.random((100, 1))).argmax(1)
    value = point(labels, probabilities)
    samples = bootstrap(
        labels, measures(labels, probabilities, {}), num_classes=3, num_bootstrap=200
    )
    assert value['top_label_ece'] > 0.08
    assert samples['top_label_ece'].mean() > value['top_label_ece'] + 0.02
    assert samples['log_loss'].mean() == pytest.approx(value['log_loss'], abs=0.01)


def test_as_many_bins_as_images_and_either_order_of_memory():
    """More than a byte counts: every score lies alone, and misses by all that it misses."""
    labels, probabilities = problem(700)
    wanted = point(labels, probabilities, GROUPS, 700)
    tested = np.unique(labels)
    gaps = np.abs(probabilities - np.eye(5)[labels])[:, tested]
    assert wanted['class_wise_ece'] == pytest.approx(gaps.mean())
    assert point(labels, np.asfortranarray(probabilities), GROUPS, 700) == pytest.approx(wanted)
