import xml.etree.ElementTree as ET

import numpy as np
import pytest

from ltjax.evaluation import confusion
from ltjax.report import many_classes

pytestmark = pytest.mark.figures

SIZE = 300
NAMES = [f'_class {k}' for k in range(SIZE)]
GROUPS = ['head'] * 100 + ['medium'] * 100 + ['tail'] * 100


def texts(svg):
    return [''.join(element.itertext()) for element in ET.fromstring(svg).iter() if element.text]


def per_class(size=SIZE):
    """Recall falls with size; the last class has no test images."""
    rows = []
    for k in range(size):
        value = None if k == size - 1 else 1 - k / size
        figure = {'value': value, 'low': value, 'high': value}
        tested = 0 if value is None else 10
        rows.append(
            {'name': NAMES[k], 'train_count': size - 1 - k, 'test_count': tested, 'recall': figure}
        )
    return rows


def pairs():
    """Class 3 is taken for class 5 four times of five, 7 for 8 once of one; all else is right."""
    labels = np.concatenate([np.full(5, 3), [7], np.arange(100, SIZE)])
    predictions = np.concatenate([[5, 5, 5, 5, 3], [8], np.arange(100, SIZE)])
    return confusion.count_pairs(labels, predictions)


CASES = {
    'recall_by_size': lambda: many_classes.recall_by_size(per_class(), GROUPS),
    'group_confusion': lambda: many_classes.group_confusion(pairs(), GROUPS),
    'confused_pairs': lambda: many_classes.confused_pairs(pairs(), NAMES, GROUPS),
    'ranked_values': lambda: many_classes.ranked_values(np.linspace(2, 1, SIZE), GROUPS, 'norms'),
}


@pytest.mark.parametrize('name', CASES)
def test_figures_are_well_formed_and_repeatable(name):
    svg = CASES[name]()
    assert CASES[name]() == svg
    assert 'head' in ' '.join(texts(svg))


def test_means_are_of_classes_with_test_images():
    assert 'mean of 15 classes' in texts(CASES['recall_by_size']())
    assert 'mean of 11 classes' in texts(many_classes.recall_by_size(per_class(62), GROUPS[:62]))


def test_thousands_of_dots_are_one_picture():
    svg = many_classes.ranked_values([1.0] * 5000, ['tail'] * 5000, 'norms')
    assert svg.count('<image') == 1
    assert len(svg) < 500_000


def test_groups_say_where_their_images_go():
    found = texts(CASES['group_confusion']())
    assert found.count('100') == 3  # medium, tail and the axis
    assert {'17', '83', 'wrong: a head class'} <= set(found)


def test_few_images_do_not_come_first():
    chosen = many_classes.most_confused(pairs(), SIZE)
    true, predicted = pairs().true[chosen], pairs().predicted[chosen]
    assert list(zip(true.tolist(), predicted.tolist(), strict=True)) == [(3, 5), (7, 8)]


def test_pairs_show_names_and_images():
    found = texts(CASES['confused_pairs']())
    rows = [text.replace('\u200e', '') for text in found if '→' in text and '\n' not in text]
    assert rows == ['_class 3 → _class 5', '_class 7 → _class 8']
    assert {'4 of 5', '1 of 1'} <= set(found)


def test_at_most_twenty_pairs():
    labels = np.arange(SIZE)
    wrong = confusion.count_pairs(labels, (labels + 1) % SIZE)
    assert many_classes.most_confused(wrong, SIZE).tolist() == list(range(20))
