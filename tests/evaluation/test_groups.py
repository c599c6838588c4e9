import pytest

from ltjax.errors import UserError
from ltjax.evaluation.groups import by_name, by_training_size, head_medium_tail


def test_ten_classes_make_three_four_three():
    counts = [10, 1000, 600, 400, 250, 150, 100, 60, 40, 25]
    assert head_medium_tail(counts) == {
        'head': (1, 2, 3),
        'medium': (4, 5, 6, 7),
        'tail': (8, 9, 0),
    }


def test_of_equal_counts_the_lower_index_is_larger():
    assert by_training_size([5, 5, 9, 5]) == [2, 0, 1, 3]
    assert head_medium_tail([5, 5, 5]) == {'head': (0,), 'medium': (1,), 'tail': (2,)}


@pytest.mark.parametrize(
    ('counts', 'expected'),
    [
        ([], {}),
        ([3], {'head': (0,)}),
        ([3, 8], {'head': (1,), 'tail': (0,)}),
        ([4, 3, 2, 1], {'head': (0,), 'medium': (1, 2), 'tail': (3,)}),
    ],
)
def test_few_classes(counts, expected):
    assert head_medium_tail(counts) == expected


def test_explicit_groups_override_counts_and_come_in_order():
    groups = head_medium_tail([9, 5, 1], {'tail': [0], 'head': [2, 1], 'medium': []})
    assert groups == {'head': (2, 1), 'tail': (0,)}
    assert list(groups) == ['head', 'tail']


@pytest.mark.parametrize(
    ('explicit', 'message'),
    [
        ({'head': [0], 'medium': [1], 'tail': [3]}, r'list \[3\].*0 to 2'),
        ({'head': [0], 'medium': [1], 'tail': [-1]}, r'list \[-1\]'),
        ({'head': [0, 1], 'medium': [1], 'tail': [2]}, r'list \[1\] more than once'),
        ({'head': [0, 0], 'medium': [1], 'tail': [2]}, r'list \[0\] more than once'),
        ({'head': [0], 'tail': [2]}, r'leave out \[1\]'),
        ({'head': [0], 'tails': [1, 2]}, 'did you mean tail'),
    ],
)
def test_wrong_explicit_groups_are_named(explicit, message):
    with pytest.raises(UserError, match=message):
        head_medium_tail([9, 5, 1], explicit)


@pytest.mark.parametrize('names', [('-1', '0', '1'), ('1.5', '0.5', '1'), ('1', '2', 'unknown')])
def test_a_number_is_no_place_where_names_are_numbers(names):
    assert by_name({'tail': (1,)}, names) == {'tail': [names.index('1')]}
    with pytest.raises(UserError, match="unknown class '7'"):
        by_name({'tail': (7,)}, names)


def test_a_number_that_is_no_name_is_refused_as_soon_as_one_name_is_a_number():
    with pytest.raises(UserError, match="unknown class '0'"):
        by_name({'tail': (0,)}, ('1', '2', 'unknown'))
    assert by_name({'tail': (0,)}, ('mel', 'nv')) == {'tail': [0]}
