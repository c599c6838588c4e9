"""Chula RBC-12 in miniature: cells cut out of smears, of which some are the same."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

import fabricated
from data_prep import chula_rbc12
from data_prep.tools import tool

CELLS = '10 12 0\n150 110 5\n80 60 10\n\n40 44 11\r\n3 117 12\n159 0 9\n'


def chula(root):
    """Smears 1 to 7; 6 is a copy of 2, and 4 has no labels."""
    for number in range(1, 8):
        fabricated.picture(root / 'Dataset' / f'{number}.jpg', size=(160, 120))
        if number != 4:
            label = root / 'Label' / f'{number}.txt'
            label.parent.mkdir(exist_ok=True)
            label.write_bytes(CELLS.encode())
    shutil.copy(root / 'Dataset' / '2.jpg', root / 'Dataset' / '6.jpg')
    fabricated.litter(root / 'Label')
    fabricated.litter(root / 'Dataset')
    return root


def test_chula(tmp_path, capsys):
    root = chula(tmp_path / 'in')
    found = fabricated.run(chula_rbc12, root, tmp_path / 'out', '--size=32')
    assert '1 images without a label' in capsys.readouterr().out
    names = {'000': 'normal cell', '001': 'stomatocyte', '003': 'hypochromia', '005': 'schistocyte'}
    assert fabricated.labels_of(found) == {
        f'{smear}-{cell}': name for smear in (1, 2, 3, 5, 6, 7) for cell, name in names.items()
    }
    group = {id_[0]: group for id_, group in zip(found.ids, found.groups, strict=True)}
    assert group == {'1': '1', '2': '2', '3': '3', '5': '5', '6': '2', '7': '7'}
    for protocol in ('clean_6_2_2', 'clean_5_fold'):
        side = fabricated.sides(found, protocol)
        assert len({side[f'{smear}-{cell}'] for smear in (2, 6) for cell in names}) == 1
    # By hand: 72 pixels with (x, y) in their middle, mirrored at the border without repeating it.
    smear = np.asarray(Image.open(root / 'Dataset' / '1.jpg'))
    for cell, (x, y) in {'000': (10, 12), '001': (150, 110), '005': (159, 0)}.items():
        rows, columns = np.abs(np.arange(y - 36, y + 36)), np.abs(np.arange(x - 36, x + 36))
        rows, columns = np.minimum(rows, 238 - rows), np.minimum(columns, 318 - columns)
        expected = Image.fromarray(smear[rows][:, columns]).resize((32, 32), Image.BILINEAR)
        (at,) = np.flatnonzero(found.ids == f'1-{cell}')
        assert found.stored()[np.array([at])][0].tolist() == np.asarray(expected).tolist()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('10 12\n', 'line 1 of .*3.txt is not `x y code`'),
        ('10 12 0\n10 12 one\n', 'line 2 of .*3.txt is not `x y code`'),
        ('10 12 13\n', 'line 1 of .*3.txt has the code 13'),
        ('160 12 0\n', 'Dataset/3.jpg has no pixel 160, 12'),
        ('-1 12 0\n', 'Dataset/3.jpg has no pixel -1, 12'),
    ],
)
def test_chula_s_labels_are_checked(tmp_path, capsys, text, message):
    root = chula(tmp_path / 'in')
    (root / 'Label' / '3.txt').write_text(text, 'utf-8')
    with pytest.raises(SystemExit):
        fabricated.run(chula_rbc12, root, tmp_path / 'out')
    assert re.search(message, capsys.readouterr().err)


def test_chula_lacks_no_smear_that_is_labelled(tmp_path, capsys):
    root = chula(tmp_path / 'in')
    (root / 'Label' / '9.txt').write_text('1 1 0\n', 'utf-8')
    with pytest.raises(SystemExit):
        tool.run(chula_rbc12.SOURCE, '', [f'--source={root}', f'--out={tmp_path / "out"}'])
    assert '1 of 7 labelled images are missing: 9.' in capsys.readouterr().err
    found = fabricated.run(chula_rbc12, root, tmp_path / 'out')
    assert not any(id_.startswith('9') for id_ in found.ids.tolist())
    assert sum(chula_rbc12.COUNTS.values()) == 20870


def test_what_lies_beside_the_smears_is_not_read(tmp_path):
    root = chula(tmp_path / 'in')
    fabricated.picture(root / 'RBC Diseases' / 'thalassemia' / '1.jpg', size=(160, 120))
    (root / 'Label' / 'classes.txt').write_text('0 normal cell\n', 'utf-8')
    (root / 'Label' / '7.txt').write_bytes(b'')  # a field without a cell
    found = fabricated.run(chula_rbc12, root, tmp_path / 'out')
    assert {id_[0] for id_ in found.ids.tolist()} == set('12356')
    assert fabricated.labels_of(found)['1-000'] == 'normal cell'


def test_copies_of_a_smear_may_disagree_but_stay_on_one_side(tmp_path):
    root = chula(tmp_path / 'in')
    (root / 'Label' / '6.txt').write_text('10 12 7\n150 110 5\n', 'utf-8')
    found = fabricated.run(chula_rbc12, root, tmp_path / 'out')
    labels = fabricated.labels_of(found)
    assert (labels['2-000'], labels['6-000']) == ('normal cell', 'teardrop')
    side = fabricated.sides(found, 'clean_6_2_2')
    assert side['2-000'] == side['6-000'] == side['6-001']


def test_a_damaged_smear_stops_or_its_cells_are_excluded(tmp_path, capsys):
    root = chula(tmp_path / 'in')
    smear = root / 'Dataset' / '3.jpg'
    smear.write_bytes(smear.read_bytes()[:900])
    with pytest.raises(SystemExit):
        fabricated.run(chula_rbc12, root, tmp_path / 'out')
    assert '3.jpg is damaged' in capsys.readouterr().err
    found = fabricated.run(chula_rbc12, root, tmp_path / 'out', '--on-damaged=exclude')
    assert sorted({id_[0] for id_ in found.ids.tolist()}) == list('12567')
    excluded = found.manifest['excluded']
    assert sorted(excluded) == ['3-000', '3-001', '3-003', '3-005']
    assert all('3.jpg is damaged' in reason for reason in excluded.values())


def test_a_field_a_few_pixels_further_is_the_same(tmp_path):
    def thumbnails(bits):
        signs = np.where(np.arange(256) < bits, -1, 1).reshape(16, 16)
        first = np.full((16, 1), 128)
        return np.concatenate([first, 128 + np.cumsum(signs, axis=1)], axis=1).astype(np.uint8)

    some = np.stack([thumbnails(bits) for bits in (0, 20, 21, 100, 41)])
    found = [tuple(pair) for pairs in chula_rbc12.same_field(some) for pair in pairs.tolist()]
    assert found == [(0, 1), (1, 2), (2, 4)]
