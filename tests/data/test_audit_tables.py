"""The audit of a CSV: rows, labels, groups, splits, and what is left of it in a line when it cannot be read."""

import shutil

import pytest

from audited import found, kinds, listed, picture, save, table
from ltjax.data import audit
from ltjax.data.audit import __main__ as command
from ltjax.errors import UserError


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
def test_a_csv_of_utf_8_is_read(tmp_path, encoding):
    rows = [[path, {'a': 'naevus', 'b': 'Läsion'}[label]] for path, label in listed(tmp_path)]
    result = audit.examine(table(tmp_path / 'set.csv', ['path', 'label'], rows, encoding))
    assert result.counts == {'Läsion': 6, 'naevus': 6}
    assert result.findings == []


def test_what_cannot_be_read_at_all_is_refused_in_a_line(tmp_path):
    rows = [['a.png', 'Läsion']]
    columns = ['path', 'label']
    bad = {
        table(tmp_path / 'l.csv', columns, rows, 'latin-1'): r'l.csv is not in UTF-8 (line 2, byte 0xe4',
        table(tmp_path / 'u.csv', columns, rows, 'utf-16'): 'u.csv is in UTF-16: save it as UTF-8',
        table(tmp_path / 's.csv', ['path|label'], [['a|b']]): 'no column `path` separated by commas',
        table(tmp_path / 'f.csv', ['file', 'label'], rows): 'has no column `path` (it has file, label)',
        tmp_path / 'absent': 'absent does not exist',
        save(tmp_path / 'x.png', picture(0)): 'is no folder, .csv or .npz',
    }  # fmt: skip
    (tmp_path / 'x.npz').write_bytes(b'')
    (tmp_path / 'half').mkdir()
    (tmp_path / 'half' / 'unfinished.json').write_text('{}', 'utf-8')
    bad |= {tmp_path / 'x.npz': 'is not a readable npz', tmp_path / 'half': 'is not finished'}
    for path, message in bad.items():
        with pytest.raises(UserError) as error:
            command.main([str(path)])
        assert message in str(error.value)
        assert '\n' not in str(error.value)


def test_broken_rows_and_paths_are_counted(tmp_path):
    save(tmp_path / 'outside.png', picture(70))
    root = tmp_path / 'set'
    rows = listed(root)
    rows += [
        ['images/0.png'], ['images/1.png', 'a', 'more'], ['', 'a'], ['../outside.png', 'a'],
        [str(tmp_path / 'outside.png'), 'a'], ['images/none.png', 'b'], ['images/\0.png', 'b'],
        ['images', 'a'],
    ]  # fmt: skip
    path = table(root / 'set.csv', ['path', 'label'], rows)
    assert found(path, 'rows') == [
        'rows that have not 2 columns, or no path: 3 [line 14; line 15; line 16]'
    ]
    (text,) = found(path, 'unreadable')
    assert text.startswith('images that cannot be read: 5 [')
    assert text.count('leads out of') == 2
    assert 'none.png does not exist' in text
    assert 'is no path' in text
    assert 'Is a directory' in text


def test_labels_that_are_missing_or_spelled_otherwise_are_told(tmp_path):
    rows = listed(tmp_path)
    rows[0][1], rows[1][1], rows[2][1] = '', 'B', 'a '
    path = table(tmp_path / 'set.csv', ['path', 'label'], rows)
    assert found(path, 'labels') == [
        "classes that are spelled in several ways: 1 ['B', 'b']",
        'images without a label: 1 [images/0.png]',
    ]
    assert found(table(tmp_path / 'none.csv', ['path'], [[row[0]] for row in rows]), 'labels') == [
        f'images without a label: 12 [{"; ".join(row[0] for row in rows)}]'
    ]
    one = table(tmp_path / 'one.csv', ['path', 'label'], [[row[0], 'a'] for row in rows])
    assert 'there is one class: classification needs two or more []' in found(one, 'labels')


def test_conflicts_of_labels_are_told(tmp_path):
    rows = listed(tmp_path)
    shutil.copy(tmp_path / 'images/0.png', tmp_path / 'images/copy.png')
    save(tmp_path / 'images/saved.jpg', picture(3), quality=80)
    rows += [['images/copy.png', 'b'], ['images/saved.jpg', 'a'], ['images/5.png', 'a']]
    path = table(tmp_path / 'set.csv', ['path', 'label'], rows)
    assert found(path, 'conflicts') == [
        (
            'clusters of exact duplicates with several labels: 2 '
            '[images/0.png (a), images/copy.png (b); images/5.png (b), images/5.png (a)]'
        ),
        'clusters of near-duplicates with several labels: 1 [images/3.png (b), images/saved.jpg (a)]',
    ]
    assert found(path, 'ids') == [
        'images that are listed more than once: 1 [images/5.png (2 times)]'
    ]
    (without,) = found(path, 'conflicts', max_distance=0)
    assert without.startswith('clusters of exact duplicates')


def test_groups_splits_and_ids_that_lie_on_two_sides_are_leaks(tmp_path):
    sides = ['train'] * 6 + ['val'] * 3 + ['test'] * 3
    rows = [[*row, sides[i], f'p{i // 2}'] for i, row in enumerate(listed(tmp_path))]
    columns = ['path', 'label', 'split', 'group']
    path = table(tmp_path / 'set.csv', columns, rows)
    assert found(path, 'leaks') == [
        "groups on several sides of the split 'split': 1 [images/8.png (val), images/9.png (test)]"
    ]
    rows[9][3] = ''
    assert kinds(table(path, columns, rows)) == []
    rows.append(['images/0.png', 'a', 'test', ''])
    (leak,) = found(table(path, columns, rows), 'leaks')
    assert leak.startswith('clusters of exact duplicates')
    assert leak.endswith('[images/0.png (train), images/0.png (test)]')
    for row in rows:
        row[2] = {'test': 'spare'}.get(row[2], row[2])
    assert found(table(path, columns, rows), 'splits') == [
        (
            "images of the unknown split 'spare' (use train, val or test): 4 "
            '[images/9.png; images/10.png; images/11.png; images/0.png]'
        ),
        'no image is marked test []',
    ]
    for i, row in enumerate(rows[:12]):
        row[2], row[3] = str(i % 3), ''
    assert kinds(table(path, columns, rows[:12])) == []


def test_duplicates_and_small_classes_matter_before_a_split(tmp_path):
    rows = [[*row, ''] for row in listed(tmp_path)]
    shutil.copy(tmp_path / 'images/0.png', tmp_path / 'images/copy.png')
    save(tmp_path / 'images/c.png', picture(80))
    save(tmp_path / 'images/c2.png', picture(81))
    rows += [['images/copy.png', 'a', ''], ['images/c.png', 'c', ''], ['images/c2.png', 'c', '']]
    columns = ['path', 'label', 'group']
    path = table(tmp_path / 'set.csv', columns, rows)
    assert found(path, 'duplicates') == [
        'duplicates in 1 clusters that no `group` holds together: 2 [images/0.png, images/copy.png]'
    ]
    (tiny,) = found(path, 'tiny')
    assert tiny == 'classes of fewer than 3 images, groups or clusters of duplicates: 1 [c (2)]'
    rows[0][2] = rows[12][2] = 'patient'
    assert kinds(table(path, columns, rows)) == ['tiny']
