import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest

from ltjax.report import figures
from ltjax.report.embedding import mapped_classes, stratified_subset, tsne

pytestmark = pytest.mark.figures

NAMES = ['a <b> & c', 'costs $5 to $9', '_background']
GROUPS = ['head', 'medium', 'tail']


def texts(svg):
    """All text of an SVG; raises if it is not well-formed."""
    return [''.join(element.itertext()) for element in ET.fromstring(svg).iter() if element.text]


def per_class():
    figure = {'value': 0.5, 'low': 0.4, 'high': 0.6}
    nothing = {'value': None, 'low': None, 'high': None}
    return [
        {'name': NAMES[0], 'train_count': 1200, 'recall': figure},
        {'name': NAMES[1], 'train_count': 40, 'recall': figure},
        {'name': NAMES[2], 'train_count': 0, 'recall': nothing},
    ]


def curves():
    points = np.array([[100.0, 0.3], [200.0, 0.5]])
    none = np.empty((0, 2))
    return {
        'first': {'loss': points, 'val_balanced_accuracy': points},
        'second': {'loss': points, 'val_balanced_accuracy': none},
    }


CASES = {
    'class_recalls': lambda: figures.class_recalls(per_class(), GROUPS),
    'confusion_matrix': lambda: figures.confusion_matrix(
        np.array([[8, 1, 1], [0, 4, 0], [0, 0, 0]]), NAMES
    ),
    'learning_curves': lambda: figures.learning_curves(curves()),
    'feature_map': lambda: figures.feature_map(np.eye(3)[:, :2], np.arange(3), NAMES),
    'class_values': lambda: figures.class_values([1.0, 0.5, 0.2], NAMES, GROUPS, 'norms'),
    'lines': lambda: figures.lines({'a': [[0, 1], [1, 2]], 'b': [[0], [1]]}, 'two', 'x', 'y'),
}


@pytest.mark.parametrize('name', CASES)
def test_figures_are_well_formed_and_repeatable(name):
    settings = dict(matplotlib.rcParams)
    svg = CASES[name]()
    assert CASES[name]() == svg
    assert dict(matplotlib.rcParams) == settings
    found = texts(svg)
    wanted = {'learning_curves': ['first', 'second'], 'lines': ['a', 'b']}.get(name, NAMES)
    assert all(any(text == name for text in found) for name in wanted)


ODD = {
    '_background': '_background',
    '__': '__',
    '$a$ and $b_1$': '$a$ and $b_1$',
    'سرطان الجلد': 'سرطان الجلد',
    '皮膚がん': '皮膚がん',
    '': '(no name)',
    'two\nlines\x08': 'two lines',
    'x' * 60 + 'y' * 60: 'x' * 20 + '…' + 'y' * 19,
}


@pytest.mark.parametrize('figure', ['class_recalls', 'matrix', 'map', 'values', 'lines'])
def test_every_name_shows(figure):
    """Matplotlib leaves names with '_' out of legends and warns of letters that its font lacks."""
    names = list(ODD)
    recall = {'value': 0.5, 'low': 0.4, 'high': 0.6}
    rows = [{'name': name, 'train_count': 9, 'recall': recall} for name in names]
    groups = ['head'] * len(names)
    draw = {
        'class_recalls': lambda: figures.class_recalls(rows, groups),
        'matrix': lambda: figures.confusion_matrix(np.eye(len(names), dtype=int), names),
        'map': lambda: figures.feature_map(np.eye(len(names))[:, :2], np.arange(len(names)), names),
        'values': lambda: figures.class_values([1.0] * len(names), names, groups, 'norms'),
        'lines': lambda: figures.lines({name: [[0, 1], [1, 2]] for name in names}, 't', 'x', 'y'),
    }[figure]
    found = {text.strip() for text in texts(draw())}
    assert set(ODD.values()) <= found


def test_a_map_with_a_marker_for_each_group():
    points = np.random.default_rng(0).normal(size=(4, 2))
    svg = figures.feature_map(points, np.arange(4), list('abcd'), [0, 0, 1, 1])
    assert svg.count(figures.CLASS_COLOURS[0]) == svg.count(figures.CLASS_COLOURS[1]) > 0
    assert figures.CLASS_COLOURS[2] not in svg


def test_class_recalls_show_counts_and_missing_classes():
    found = texts(CASES['class_recalls']())
    assert '1,200' in found
    assert 'no test images' in found
    assert all(group in found for group in GROUPS)


def test_confusion_matrix_shows_shares_of_the_true_class():
    found = texts(CASES['confusion_matrix']())
    assert '80' in found
    assert found.count('10') == 2


def test_stratified_subset_keeps_shares_and_small_classes():
    labels = np.repeat([0, 1, 2], [3000, 990, 2])
    chosen = stratified_subset(labels, 1000)
    assert len(chosen) <= 1000
    assert len(np.unique(chosen)) == len(chosen)
    counts = np.bincount(labels[chosen])
    assert (counts[0], counts[1], counts[2]) == (751, 247, 1)
    np.testing.assert_array_equal(chosen, stratified_subset(labels, 1000))


def test_stratified_subset_of_a_small_set_is_all_of_it():
    np.testing.assert_array_equal(stratified_subset(np.array([1, 0, 1]), 3), [0, 1, 2])


def test_stratified_subset_holds_its_limit_with_many_classes():
    assert len(stratified_subset(np.arange(50).repeat(2), 20)) == 20


def test_mapped_classes_span_the_sizes_of_each_group():
    groups = [range(100), range(100, 103), [103, 104]]
    labels = np.setdiff1d(np.arange(103), [0, 101])  # no images of 0, 101 and the last group
    chosen = mapped_classes(labels, groups, 4)
    assert chosen == [[1, 34, 66, 99], [100, 102], []]


def test_tsne_separates_what_is_separate_and_repeats_itself():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    features = rng.normal(size=(40, 8)) + 20 * labels[:, None]
    points = tsne(features)
    np.testing.assert_array_equal(points, tsne(features))
    a, b = points[labels == 0], points[labels == 1]
    within = max(np.linalg.norm(a - a.mean(0), axis=1).max(), np.ptp(b, axis=0).max() / 2)
    assert np.linalg.norm(a.mean(0) - b.mean(0)) > within


@pytest.mark.parametrize(
    ('features', 'message'),
    [
        (np.zeros((4, 5)), 'ten images'),
        (np.zeros((20, 1)), 'two dimensions'),
        (np.ones((20, 5)), 'the same'),
        (np.full((20, 5), np.nan), 'not finite'),
    ],
)
def test_tsne_says_why_it_cannot(features, message):
    with pytest.raises(ValueError, match=message):
        tsne(features)
