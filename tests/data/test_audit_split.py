"""The split that the audit suggests and writes."""

import csv
import shutil

import numpy as np
import pytest

from audited import class_folders, kinds, listed, picture, table
from ltjax.data import audit
from ltjax.data.audit import __main__ as command
from ltjax.errors import UserError


def test_a_suggested_split_keeps_duplicates_together_and_every_class_on_every_side(tmp_path):
    root = class_folders(tmp_path, (20, 9, 3))
    for i in range(5):
        shutil.copy(root / 'a' / f'{i}.png', root / 'a' / f'copy{i}.png')
    (root / 'a' / 'bad.png').write_bytes(b'')
    split = audit.examine(root).suggestion
    assert split.units == 5
    assert split.left_out == ()
    assert 'a/bad.png' not in split.sides
    assert sum(map(sum, split.counts.values())) == len(split.sides) == 37
    for i in range(5):
        assert split.sides[f'a/{i}.png'] == split.sides[f'a/copy{i}.png']
    assert audit.examine(root).suggestion == split
    assert audit.examine(root, seed=1).suggestion.sides != split.sides


def test_groups_and_duplicates_are_joined_in_a_split(tmp_path):
    rows = [[*row, f'p{i // 2}'] for i, row in enumerate(listed(tmp_path, 30))]
    shutil.copy(tmp_path / 'images/0.png', tmp_path / 'images/copy.png')
    rows.append(['images/copy.png', 'a', 'p7'])
    path = table(tmp_path / 'set.csv', ['path', 'label', 'group'], rows)
    sides = audit.examine(path, val=0.2).suggestion.sides
    assert len({sides[f'images/{i}.png'] for i in (0, 1, 14, 15)} | {sides['images/copy.png']}) == 1
    for i in range(0, 30, 2):
        assert sides[f'images/{i}.png'] == sides[f'images/{i + 1}.png']
    notes = audit.examine(path, val=0.9).notes
    assert any(note.startswith('no split is suggested: fractions') for note in notes)


def rows_of(path):
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def test_a_written_split_can_be_trained_from(tmp_path):
    root = class_folders(tmp_path / 'set')
    (root / 'a' / 'bad.png').write_bytes(b'')
    target = tmp_path / 'split.csv'
    assert command.main([str(root), '--write-split', str(target)]) == 1
    rows = rows_of(target)
    assert list(rows[0]) == ['path', 'label', 'split']
    assert len(rows) == 18
    assert {'path': 'set/b/3.png', 'label': 'b'}.items() <= rows[11].items()
    assert kinds(target) == []  # it is clean in its turn


def test_a_csv_keeps_its_columns_in_the_written_split(tmp_path, capsys):
    root = tmp_path / 'set'
    rows = [[path, 'train', 'x,"y"', label] for path, label in listed(root)]
    path = table(root / 'set.csv', ['path', 'split', 'extra', 'label'], rows, 'utf-8-sig')
    target = root / 'new.csv'
    assert command.main([str(path), '--write-split', str(target)]) == 1
    assert 'no image is marked val' in capsys.readouterr().out
    written = rows_of(target)
    assert list(written[0]) == ['path', 'split', 'extra', 'label']
    assert {row['split'] for row in written} == {'train', 'val', 'test'}
    assert written[0]['path'] == 'images/0.png'
    assert written[0]['extra'] == 'x,"y"'
    assert command.main([str(path), '--write-split', str(tmp_path / 'above.csv')]) == 1
    assert rows_of(tmp_path / 'above.csv')[0]['path'] == 'set/images/0.png'
    (tmp_path / 'other').mkdir()
    for wrong, message in (
        (target, 'exists'), (tmp_path / 'none' / 'x.csv', 'is no folder'),
        (tmp_path / 'other' / 'x.csv', 'should lie in'),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            command.main([str(path), '--write-split', str(wrong)])
    with pytest.raises(UserError, match='y.csv is not written'):
        command.main([str(path), '--write-split', str(root / 'y.csv'), '--test=0.99'])
    assert not (root / 'y.csv').exists()


def test_other_sets_get_ids_and_sides(tmp_path):
    images = np.stack([picture(i, 20) for i in range(12)])
    np.savez(tmp_path / 'set.npz', images=images, labels=np.arange(12) % 2)
    target = tmp_path / 'split.csv'
    assert command.main([str(tmp_path / 'set.npz'), '--write-split', str(target)]) == 0
    rows = rows_of(target)
    assert list(rows[0]) == ['id', 'split']
    assert [row['id'] for row in rows] == [f'{i:06d}' for i in range(12)]
