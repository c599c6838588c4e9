import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ltjax.errors import UserError
from ltjax.evaluation import operating_points
from ltjax.evaluation.bootstrap import Units
from ltjax.evaluation.operating_points import choose, measures, net_benefit, referral

GROUPS = {'head': (0,), 'medium': (1, 2), 'tail': (3, 4)}
ONES = np.ones((1, 8), np.int64)


def two(first):
    """Probabilities of two classes."""
    first = np.array(first, np.float64)
    return np.stack([first, 1 - first], axis=1)


def problem(decimals=8, num_images=90, seed=0):
    """Five classes, of which class 1 has no images; one decimal makes nearly every score a tie."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=num_images)
    labels[labels == 1] = 0
    probabilities = rng.dirichlet(np.ones(5), size=num_images) + 0.5 * np.eye(5)[labels]
    probabilities = np.round(probabilities / 1.5, decimals)
    return labels, probabilities, Units(labels).draw(6, rng)


def repeated(row, *arrays):
    return [array.repeat(row, axis=0) for array in arrays]


LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
FIRST = [0.9, 0.8, 0.8, 0.3, 0.85, 0.5, 0.5, 0.1]


@pytest.mark.parametrize(
    ('sensitivity', 'threshold'), [(0.25, 0.9), (0.26, 0.8), (0.75, 0.8), (0.76, 0.3), (1, 0.3)]
)
def test_the_largest_threshold_that_reaches_a_sensitivity(sensitivity, threshold):
    assert choose(LABELS, two(FIRST), sensitivity=sensitivity)[0] == threshold


@pytest.mark.parametrize(
    ('specificity', 'above'), [(0.25, 0.1), (0.26, 0.5), (0.75, 0.5), (0.76, 0.85), (1, 0.85)]
)
def test_the_smallest_threshold_that_reaches_a_specificity(specificity, above):
    threshold = choose(LABELS, two(FIRST), specificity=specificity)[0]
    assert threshold == np.nextafter(above, 1)


@pytest.mark.parametrize('wished', [0.07, 0.14, 0.28, 0.29, 0.55, 0.56, 0.57, 0.58])
def test_shares_that_are_no_exact_floats_are_reached_exactly(wished):
    """0.55 times 100 is a little more than 55 in floats: that many still are enough."""
    scores = np.arange(100, 0, -1) / 101
    labels = np.repeat([0, 1], 100)
    both = two(np.concatenate([scores, scores]))
    number = round(100 * wished)
    assert choose(labels, both, sensitivity=wished)[0] == scores[number - 1]
    assert choose(labels, both, specificity=wished)[0] == np.nextafter(scores[-number], 1)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=20),
    st.floats(0.01, 1),
)
def test_no_other_threshold_does_it(rows, wished):
    labels = np.array([int(not positive) for positive, _ in rows])
    scores = np.array([score / 6 for _, score in rows])
    by_sensitivity = choose(labels, two(scores), sensitivity=wished)[0]
    by_specificity = choose(labels, two(scores), specificity=wished)[0]
    if len(set(labels)) < 2:
        assert np.isnan([by_sensitivity, by_specificity]).all()
        return

    def found(threshold):
        return (scores[labels == 0] >= threshold).mean()

    def spared(threshold):
        return (scores[labels == 1] < threshold).mean()

    assert found(by_sensitivity) >= wished > found(np.nextafter(by_sensitivity, 2))
    assert spared(by_specificity) >= wished > spared(np.nextafter(by_specificity, -2))


def test_a_point_on_scikit_learns_curve():
    labels, probabilities, _ = problem(num_images=300)
    for k in (0, 2, 3, 4):
        rate, found, thresholds = sk.roc_curve(
            labels == k, probabilities[:, k], drop_intermediate=False
        )
        chosen = choose(labels, probabilities, sensitivity=0.8)[k]
        assert chosen == thresholds[found >= 0.8][0]
        chosen = choose(labels, probabilities, specificity=0.8)[k]
        # The least score that is still called positive.
        assert (
            probabilities[:, k][probabilities[:, k] >= chosen].min()
            == (thresholds[1 - rate >= 0.8][-1])
        )


def test_no_threshold_where_validation_lacks_a_class():
    probabilities = np.full((3, 3), 1 / 3)
    for wish in ({'sensitivity': 0.9}, {'specificity': 0.9}):
        some = choose(np.array([0, 2, 2]), probabilities, **wish)
        assert np.isnan(some).tolist() == [False, True, False]
        assert np.isnan(choose(np.array([1, 1, 1]), probabilities, **wish)).all()
        assert np.isnan(choose(np.array([], int), probabilities[:0], **wish)).all()


@pytest.mark.parametrize(
    'wish',
    [
        {},
        {'sensitivity': 0.9, 'specificity': 0.9},
        {'sensitivity': 0.0},
        {'sensitivity': 1.1},
        {'specificity': -0.1},
        {'specificity': float('nan')},
    ],
)
def test_wishes_that_cannot_be_met_are_refused_in_a_line(wish):
    with pytest.raises(UserError) as error:
        choose(LABELS, two(FIRST), **wish)
    assert '\n' not in str(error.value)


def test_measures_by_hand():
    # Of class 0 three of four are called, of the others one.
    got = measures(LABELS, two(FIRST), np.array([0.8, np.nan]), [0.01, 0.99])(ONES)
    values = {name: row[0, 0].item() for name, row in got.items()}
    assert values == pytest.approx(
        {
            'sensitivity': 3 / 4,
            'specificity': 3 / 4,
            'ppv': 3 / 4,
            'npv': 3 / 4,
            'ppv at prevalence': 0.0075 / (0.0075 + 0.2475),
            'npv at prevalence': 0.7425 / (0.7425 + 0.0025),
        },
        abs=1e-12,
    )
    assert all(np.isnan(row[0, 1]) for row in got.values())


@pytest.mark.parametrize('decimals', [1, 8])
def test_measures_are_those_of_the_repeated_images(decimals):
    labels, probabilities, weights = problem(decimals)
    thresholds = np.nan_to_num(choose(labels, probabilities, sensitivity=0.7), nan=0.5)
    prevalence = np.array([0.8, 0.0, 0.1, 0.06, 0.04])
    got = measures(labels, probabilities, thresholds, prevalence)(weights)
    for r, row in enumerate(weights):
        own, scores = repeated(row, labels, probabilities)
        for k in (0, 2, 3, 4):
            called = scores[:, k] >= thresholds[k]
            _, (fn, tp) = sk.confusion_matrix(own == k, called, labels=[False, True])
            found, pi = tp / (tp + fn), prevalence[k]
            alarms = sum(prevalence[j] * called[own == j].mean() for j in (0, 2, 3, 4) if j != k)
            expected = {
                'sensitivity': sk.recall_score(own == k, called),
                'specificity': sk.recall_score(own != k, ~called),
                'ppv': sk.precision_score(own == k, called),
                'npv': sk.precision_score(own != k, ~called),
                'ppv at prevalence': found * pi / (found * pi + alarms),
                'npv at prevalence': (1 - pi - alarms) / (1 - pi - alarms + (1 - found) * pi),
            }
            for name, value in expected.items():
                assert got[name][r, k] == pytest.approx(value, abs=1e-12), (name, k)
    assert all(np.isnan(values[:, 1]).all() for values in got.values())


def test_bayes_at_the_test_sets_prevalence_gives_the_counted_values():
    labels, probabilities, _ = problem(num_images=400)
    prevalence = np.bincount(labels, minlength=5) / 400
    thresholds = choose(labels, probabilities, specificity=0.8)
    got = measures(labels, probabilities, thresholds, prevalence)(np.ones((1, 400), int))
    for name in ('ppv', 'npv'):
        np.testing.assert_allclose(got[name], got[f'{name} at prevalence'], atol=1e-12)


def test_undefined_shares_are_nan_and_nothing_else():
    # Nothing is called positive of class 0, everything of class 1.
    got = measures(LABELS, two(FIRST), np.array([1.0, 0.0]), [0.5, 0.5])(ONES)
    defined = {name: (~np.isnan(values[0])).tolist() for name, values in got.items()}
    assert defined == {
        'sensitivity': [True, True],
        'specificity': [True, True],
        'ppv': [False, True],
        'npv': [True, False],
        'ppv at prevalence': [False, True],
        'npv at prevalence': [True, False],
    }


def test_a_class_that_a_resample_lacks_has_no_sensitivity_in_it():
    weights = np.stack([np.ones(8, np.int64), (LABELS == 1).astype(np.int64)])
    got = measures(LABELS, two(FIRST), np.array([0.8, 0.4]))(weights)
    assert np.isnan(got['sensitivity']).tolist() == [[False, False], [True, False]]
    assert got['specificity'][1, 0] == 0.75


def test_prevalences_that_are_no_shares_are_refused():
    for wrong in ([0.5, 1.5], [-0.1, 0.5], [0.5, np.nan]):
        with pytest.raises(UserError, match='of class [01]: give a share from 0 to 1'):
            measures(LABELS, two(FIRST), np.array([0.5, 0.5]), wrong)
    with pytest.raises(ValueError, match='2 classes'):
        measures(LABELS, two(FIRST), np.array([0.5, 0.5]), [0.1])


def test_net_benefit_by_hand():
    got = net_benefit(LABELS, two(FIRST), [0], [0.0, 0.5, 0.8])(ONES)
    # From 0.5 on: 3 right, 3 wrong at even odds. From 0.8 on: 3 right, 1 wrong that costs four.
    np.testing.assert_allclose(got['model'], [[[4 / 8, 0, -1 / 8]]], atol=1e-15)
    np.testing.assert_allclose(got['treat all'], [[[4 / 8, 0, (4 - 4 * 4) / 8]]], atol=1e-15)


@pytest.mark.parametrize('decimals', [1, 8])
def test_net_benefit_is_that_of_the_repeated_images(decimals):
    labels, probabilities, weights = problem(decimals)
    grid = np.arange(1, 10) / 10
    classes = [4, 1, 0, 2]
    got = net_benefit(labels, probabilities, classes, grid)(weights)
    for c, k in enumerate(classes):
        if k == 1:
            assert np.isnan(got['model'][:, c]).all()
            assert np.isnan(got['treat all'][:, c]).all()
            continue
        for r, row in enumerate(weights):
            own, scores = repeated(row, labels == k, probabilities[:, k])
            for name, called in (('model', scores[:, None] >= grid), ('treat all', grid > 0)):
                right = (own[:, None] & called).mean(0)
                wrong = (~own[:, None] & called).mean(0)
                expected = right - wrong * grid / (1 - grid)
                np.testing.assert_allclose(got[name][r, c], expected, rtol=0, atol=1e-12)


def test_referral_by_hand():
    labels = np.array([0, 0, 1, 1, 1])
    probabilities = two([0.9, 0.6, 0.45, 0.2, 0.7])  # certainties 0.9, 0.6, 0.55, 0.8, 0.7
    groups = {'head': (1,), 'tail': (0,)}
    got = referral(labels, probabilities, groups, [0, 0.2, 0.39, 0.4, 0.6, 0.8])(ONES[:, :5])
    np.testing.assert_allclose(got['sent'], [[0, 0.2, 0.2, 0.4, 0.6, 0.8]], atol=1e-12)
    np.testing.assert_allclose(got['accuracy'], [[4 / 5, 3 / 4, 3 / 4, 2 / 3, 1, 1]], atol=1e-12)
    # Last, no image of class 1 stays.
    np.testing.assert_allclose(
        got['balanced accuracy'], [[5 / 6, 3 / 4, 3 / 4, 3 / 4, 1, 1]], atol=1e-12
    )
    np.testing.assert_allclose(got['tail recall'], np.ones((1, 6)), atol=1e-12)


@pytest.mark.parametrize('decimals', [1, 8])
def test_referral_is_that_of_the_repeated_images(decimals):
    labels, probabilities, weights = problem(decimals)
    shares = (0.0, 0.25, 0.5, 0.95)
    got = referral(labels, probabilities, GROUPS, shares)(weights)
    certainty = probabilities.max(1)
    for i, most in enumerate(shares):
        levels = [level for level in certainty if (certainty < level).mean() <= most]
        stays = certainty >= max(levels)
        for r, row in enumerate(weights):
            own, predicted = repeated(row * stays, labels, probabilities.argmax(1))
            assert got['sent'][r, i] == pytest.approx(1 - len(own) / row.sum(), abs=1e-12)
            if not len(own):
                assert np.isnan(
                    [values[r, i] for name, values in got.items() if name != 'sent']
                ).all()
                continue
            recalls = {k: (predicted[own == k] == k).mean() for k in np.unique(own)}
            tail = [recalls[k] for k in (3, 4) if k in recalls]
            expected = {
                'accuracy': sk.accuracy_score(own, predicted),
                'balanced accuracy': np.mean(list(recalls.values())),
                'tail recall': np.mean(tail) if tail else np.nan,
            }
            for name, value in expected.items():
                assert got[name][r, i] == pytest.approx(value, abs=1e-12, nan_ok=True)


def test_who_is_sent_does_not_hang_on_the_order_of_the_file():
    labels, probabilities, _ = problem(1)
    order = np.random.default_rng(3).permutation(len(labels))
    ones = np.ones((1, len(labels)), np.int64)
    a = referral(labels, probabilities, GROUPS)(ones)
    b = referral(labels[order], probabilities[order], GROUPS)(ones)
    for name, values in a.items():
        np.testing.assert_array_equal(values, b[name])
    assert (a['sent'] <= np.array(operating_points.SHARES) + 1e-12).all()


def test_equally_certain_images_stay_together():
    got = referral(LABELS, two([1.0] * 8), {'tail': (1,)})(ONES)
    assert (got['sent'] == 0).all()
    assert (got['accuracy'] == 0.5).all()


def test_groups_without_a_tail_have_no_tail_recall():
    got = referral(np.zeros(8, int), np.ones((8, 1)), {'head': (0,)}, [0.5])(ONES)
    assert np.isnan(got['tail recall']).all()


@pytest.mark.parametrize('grid', [[], [0.5, 0.5], [0.5, 0.1], [0.1, 1.0], [-0.1, 0.2], [np.nan]])
def test_grids_that_do_not_rise_within_their_range_are_refused(grid):
    with pytest.raises(UserError, match='thresholds of a decision curve: give numbers'):
        net_benefit(LABELS, two(FIRST), [0], grid)
    with pytest.raises(UserError, match='shares of images to send: give numbers'):
        referral(LABELS, two(FIRST), {}, grid)
