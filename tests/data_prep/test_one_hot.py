"""Tables of one-hot labels, and splits that come as such."""

import pytest

import fabricated
from data_prep.tools import one_hot
from ltjax.errors import UserError


def test_splits_of_authors_are_checked(tmp_path, capsys):
    labels = {'a': 0, 'b': 1, 'c': 0}

    def lists(**parts):
        for name in ('train', 'val', 'test'):
            (tmp_path / f'{name}.csv').unlink(missing_ok=True)
        for name, some in parts.items():
            fabricated.one_hot(tmp_path / f'{name}.csv', some, ('X', 'Y'))
        return one_hot.read_splits(tmp_path, ('X', 'Y'), labels)

    assert one_hot.read_splits(None, ('X', 'Y'), labels) == {}
    two = {'authors': {'a': 'train', 'b': 'test'}}
    assert lists(train={'a': 'X'}, test={'b': 'Y', 'gone': 'X'}) == two
    assert '1 images of' in capsys.readouterr().out
    with pytest.raises(UserError, match=r'has no test\.csv'):
        lists(train={'a': 'X'}, val={'b': 'Y'})
    with pytest.raises(UserError, match='a is also in train'):
        lists(train={'a': 'X'}, test={'a': 'X'})
    with pytest.raises(UserError, match='a is Y, officially X'):
        lists(train={'a': 'Y'}, test={'b': 'Y'})
    with pytest.raises(UserError, match='names none of the images'):
        lists(train={'x': 'Y'}, test={'y': 'Y'})


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        (('a', '1.0', '1.0'), 'a has 2 of X, Y, not one'),
        (('a', '0', '0'), 'a has 0 of X, Y, not one'),
        (('a', '0.4', '1'), 'a has 1 of X, Y, not one'),
        (('a', '', '1'), 'the row of a holds no 0 or 1'),
        (('b', '0', '1'), 'names b twice'),
        (('a', '1'), 'line 3 of .* has not 3 columns'),
    ],
)
def test_rows_that_do_not_name_one_class_are_refused(tmp_path, row, message):
    path = fabricated.table(tmp_path / 'a.csv', ('image', 'X', 'Y'), [('b', 1, 0), row])
    with pytest.raises(UserError, match=message):
        one_hot.read(path, ('X', 'Y'))


def test_integers_floats_and_other_columns_are_read_and_dropped_classes_left_out(tmp_path):
    rows = [('b', '1.0', '0.0', '0', '7'), ('a', '0', '1', '0', ''), ('c', 0, 0, '1.0', 'x')]
    path = fabricated.table(tmp_path / 'a.csv', ('image', 'Y', 'X', 'UNK', 'more'), rows)
    labels = one_hot.read(path, ('X', 'Y'), drop=('UNK', 'NONE'))
    assert list(labels.items()) == [('b', 1), ('a', 0)]
    with pytest.raises(UserError, match='c has 0 of X, Y, not one'):
        one_hot.read(path, ('X', 'Y'))
