"""What a clinician reads first: exact sentences from results that are made up."""

import re

import numpy as np
import pytest

from ltjax.evaluation.groups import head_medium_tail
from ltjax.evaluation.metrics import evaluate
from ltjax.report import summary


def share(value, low=None, high=None):
    return {
        'value': value,
        'low': value if low is None else low,
        'high': value if high is None else high,
    }


def row(name, tested, recall, precision, *, train=10, groups=None):
    return {
        'name': name, 'train_count': train, 'test_count': tested, 'test_groups': groups,
        'recall': recall, 'precision': precision,
    }  # fmt: skip


def made(per_class, confusion, groups=None):
    """Results of a test, the classes from the largest in training to the smallest."""
    figure = share(0.705, 0.644, 0.751)
    return {
        'num_images': sum(each['test_count'] for each in per_class),
        'num_groups': groups,
        'metrics': {'accuracy': figure, 'balanced_accuracy': share(0.5, 0.4, 0.6)},
        'groups': {'tail': {'classes': [per_class[-1]['name']], 'recall': figure}},
        'per_class': per_class,
        'confusion': confusion,
    }


def plain(markup):
    """The text of the section, one line a paragraph, cell or list item."""
    lines = re.sub(r'</(p|td|th|li|small)>|<small>', '\n', markup)
    return [line for line in re.sub(r'<[^>]*>', '', lines).split('\n') if line.strip()]


def lines_of(test):
    return plain(summary.in_short(test, range(len(test['per_class']))))


@pytest.fixture
def test_of_three():
    """nv: 80 of 100 are found; mel: 8 of 20; df: none of 4, which are called nv, and it is never called."""
    per_class = [
        row('nv', 100, share(0.8, 0.72, 0.87), share(0.86, 0.8, 0.92), groups=60),
        row('mel', 20, share(0.4, 0.2, 0.62), share(0.286, 0.15, 0.45), groups=12),
        row('df', 4, share(0.0), share(0.0), groups=1),
    ]
    return made(per_class, [[80, 20, 0], [12, 8, 0], [4, 0, 0]], groups=73)


def test_what_was_tested_and_found_is_said_in_natural_frequencies(test_of_three):
    lines = lines_of(test_of_three)
    groups = 'from 73 groups (patients, lesions or smears)'
    assert lines[0] == f'The model was tested on 124 images, {groups}, of 3 classes.'
    assert lines[1] == (
        'To find an image of a class is to call it that class. Of 100 test images the model finds 70 (64 to 75). '
        'Counting every class alike, of 100 images it finds 50 (40 to 60). In brackets: the 95 % interval.'
    )
    at = lines.index('test images')
    assert lines[at + 1 :][:22] == [
        *('df', '0', '(0 to 98)', 'nv', '4 of 4 missed', 'never called', '4', '1 group'),
        *(
            'mel',
            '40',
            '(20 to 62)',
            'nv',
            '12 of 12 missed',
            '29',
            '(15 to 45)',
            '20',
            '12 groups',
        ),
        *('nv', '80', '(72 to 87)', 'mel', '20 of 20 missed'),
    ]


def test_classes_not_to_be_trusted_are_named_by_the_rule(test_of_three):
    lines = lines_of(test_of_three)
    rule = (
        'The model must not be trusted with some classes. The rule: a class is named here if the model finds fewer '
        'than 50 of 100 of its images, if the 95 % interval of that number is wider than 30, or if fewer than 10 '
        'images of it were tested (fewer than 10 patients, lesions or smears, where these are known).'
    )
    mix = 'these figures hold for the mix of the test images.'
    assert lines[lines.index(rule) + 1 :] == [
        'Fewer than 50 of 100 are found of: df, mel.',
        'The interval is wider than 30 for: df, mel.',
        'Fewer than 10 were tested of: df (1).',
        f'How often a call is right depends on how frequent each class is: {mix}',
        'ltjax, which wrote this, is research software and not a medical device.',
    ]


def test_no_class_to_doubt():
    figure = share(0.9, 0.85, 0.95)
    test = made(
        [row('a', 100, figure, figure), row('b', 100, figure, figure)], [[90, 10], [10, 90]]
    )
    lines = lines_of(test)
    assert lines[0] == 'The model was tested on 200 images of 2 classes.'
    assert any(
        line.startswith('No class falls under the rule of what not to trust') for line in lines
    )
    assert not any('must not be trusted' in line for line in lines)


def test_a_class_without_test_images_is_said_to_be_untested():
    figure, none = share(0.9, 0.85, 0.95), dict.fromkeys(('value', 'low', 'high'))
    lines = lines_of(
        made([row('a', 100, figure, figure), row('b', 0, none, none)], [[100, 0], [0, 0]])
    )
    assert lines[lines.index('b') + 1] == 'not tested'
    assert 'None was tested of: b.' in lines


def test_of_many_classes_the_rarest_and_the_worst_are_shown():
    figure = share(0.9, 0.85, 0.95)
    recalls = [share(k / 40, k / 40 - 0.01, k / 40 + 0.01) for k in range(20, 40)]
    recalls[3] = share(0.05, 0.0, 0.1)
    per_class = [row(f'c{k}', 100, recall, figure) for k, recall in enumerate(recalls)]
    for at, each in enumerate(per_class):
        each['train_count'] = 1000 - at
    lines = lines_of(made(per_class, (np.eye(20, dtype=int) * 100).tolist()))
    shown = [line for line in lines if re.fullmatch(r'c\d+', line)]
    assert shown == ['c19', 'c18', 'c17', 'c16', 'c15', 'c14', 'c3', 'c0', 'c1', 'c2', 'c4', 'c5']
    assert any('8 more are left out here: the section Classes has them.' in line for line in lines)


def test_ties_among_confusions_are_told():
    figure = share(0.5, 0.4, 0.6)
    names = 'abcd'
    per_class = [row(name, 100, figure, figure) for name in names]
    confusion = [[50, 25, 25, 0], [50, 50, 0, 0], [10, 20, 50, 20], [10, 10, 10, 70]]
    lines = lines_of(made(per_class, confusion))
    for told, missed in (
        ('b or c', '25 of 50 missed'),
        ('b or d', '20 of 50 missed'),
        ('3 others, equally often', '10 of 30 missed'),
    ):
        assert lines[lines.index(told) + 1] == missed


def test_results_of_before_groups_were_counted(test_of_three):
    for each in test_of_three['per_class']:
        del each['test_groups']
    del test_of_three['num_groups']
    lines = lines_of(test_of_three)
    assert lines[lines.index('df') + 2] == '(0 to 60)'
    assert 'Fewer than 10 were tested of: df (4).' in lines


@pytest.mark.parametrize('belongs_to', [None, [f'p{k // 4}' for k in range(60)]])
def test_of_real_results(belongs_to):
    """Classes with `|`, `<` and quotes; groups are counted by class."""
    labels = np.repeat(np.arange(3), 20)
    logits = np.eye(3)[labels] + np.random.default_rng(0).normal(size=(60, 3))
    counts = [100, 50, 10]
    test = evaluate(
        labels, logits, class_names=['<b>', 'a|b', '"c"'], train_counts=counts, groups=head_medium_tail(counts),
        belongs_to=None if belongs_to is None else np.array(belongs_to), num_bootstrap=20,
    )  # fmt: skip
    assert [each['test_groups'] for each in test['per_class']] == [belongs_to and 5] * 3
    markup = summary.in_short(test, [0, 1, 2])
    assert '&lt;b&gt;' in markup
    assert '<b>' not in markup
    assert ('Fewer than 10 were tested of' in markup) == (belongs_to is not None)
