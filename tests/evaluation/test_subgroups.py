"""Figures of subgroups: by hand, beside all other images, and where numbers are small."""

import json

import numpy as np
import pytest

from ltjax.evaluation.predictions import Predictions
from ltjax.evaluation.probabilities import Probabilities
from ltjax.evaluation.subgroups import NOT_GIVEN, evaluate, values_of

GROUPS = {'head': [0], 'tail': [1, 2]}


def predictions(labels, predicted, column, groups=None):
    labels = np.array(labels)
    return Predictions(
        'test.csv',
        np.arange(len(labels)).astype(str),
        labels,
        ('a', 'b', 'c'),
        Probabilities(np.eye(3)[predicted]),
        None if groups is None else np.array(groups),
        {'site': np.array(column)},
    )


def test_figures_by_hand():
    #        north: a 2 of 3, b 1 of 1     south: a 1 of 2, b 0 of 2, c 1 of 1
    test = predictions(
        [0, 0, 0, 1, 0, 0, 1, 1, 2],
        [0, 0, 1, 1, 0, 2, 0, 0, 2],
        ['north'] * 4 + ['south'] * 5,
    )
    found, warnings = evaluate(test, 'site', GROUPS, num_bootstrap=200)
    north, south = found['subgroups']
    assert [row['name'] for row in (north, south)] == ['north', 'south']
    assert (north['images'], north['groups']) == (4, None)
    assert north['accuracy']['value'] == pytest.approx(3 / 4)
    assert north['balanced_accuracy']['value'] == pytest.approx((2 / 3 + 1) / 2)
    assert south['balanced_accuracy']['value'] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert south['tail_recall']['value'] == pytest.approx(1 / 2)
    # Both have a and b: class c is no reason to call the south better.
    assert north['gap']['value'] == pytest.approx((2 / 3 - 1 / 2 + 1 - 0) / 2)
    assert south['gap']['value'] == pytest.approx(-north['gap']['value'])
    assert north['gap']['low'] <= north['gap']['value'] <= north['gap']['high']
    assert 'north (4 images), south (5 images)' in warnings[0]
    json.dumps(found, allow_nan=False)


def test_groups_are_drawn_whole_and_counted():
    """Copies of an image in one group: the interval is that of the images alone."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    predicted = np.where(rng.random(120) < 0.6, labels, 0)
    column = np.where(np.arange(120) % 2, 'f', 'm')
    once = predictions(labels, predicted, column)
    copies = predictions(
        labels.repeat(5),
        predicted.repeat(5),
        column.repeat(5),
        np.arange(120).repeat(5).astype(str),
    )
    widths = []
    for test in (once, copies):
        found, _ = evaluate(test, 'site', GROUPS, num_bootstrap=400)
        row = found['subgroups'][0]
        widths.append(row['balanced_accuracy']['high'] - row['balanced_accuracy']['low'])
    assert row['groups'] == 60
    assert widths[0] == pytest.approx(widths[1], rel=0.15)


def test_a_subgroup_that_shares_no_class_has_no_gap():
    test = predictions([0, 0, 1], [0, 1, 1], ['x', 'x', 'y'])
    found, _ = evaluate(test, 'site', GROUPS, num_bootstrap=20)
    assert found['subgroups'][0]['gap'] == {'value': None, 'low': None, 'high': None}


def test_numbers_become_bands_and_few_values_stay():
    ages = np.arange(20, 100).astype(str)
    bands = values_of(np.append(ages, ['', ' ']))
    names, sizes = np.unique(bands, return_counts=True)
    assert names.tolist() == [
        '20 to below 39.75', '39.75 to below 59.5', '59.5 to below 79.25', '79.25 to 99', NOT_GIVEN,
    ]  # fmt: skip
    assert sizes.tolist() == [20, 20, 20, 20, 2]
    assert bands[79] == '79.25 to 99'
    assert values_of(np.array(['1', '2', '10'])).tolist() == ['1', '2', '10']
    words = np.array([f'site {k}' for k in range(20)])
    assert values_of(words).tolist() == words.tolist()
