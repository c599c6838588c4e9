"""Every damaged input, through training's entry and the audit: one clear line, or a listed and counted exclusion."""

import csv
import os
import shutil
import zlib

import numpy as np
import pytest
from PIL import Image

from ltjax.data import audit, catalog, datasets, summary
from ltjax.errors import UserError

SIDES = ('train', 'train', 'val', 'test')
LAYOUTS = ('folder', 'csv')


def noise(number, shape=(16, 16, 3)):
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def sound(root):
    """Twelve images of the classes a and b; returns the rows of a table of them."""
    rows = []
    for i in range(12):
        name = f'{"ab"[i % 2]}/{i}.png'
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(i)).save(root / name)
        rows.append([name, 'ab'[i % 2], SIDES[i // 2 % 4]])
    return rows


def table(root, rows, columns=('path', 'label', 'split'), encoding='utf-8', name='set.csv'):
    with (root / name).open('w', newline='', encoding=encoding) as file:
        csv.writer(file).writerows([columns, *rows])
    return root / name


def config(path, **changes):
    made = catalog.get('folder' if path.is_dir() else 'csv')
    made.path = str(path)
    made.update(changes)
    return made


def load(path, **changes):
    return datasets.load(config(path, **changes))


def refused(path, **changes):
    with pytest.raises(UserError) as error:
        load(path, **changes)
    assert '\n' not in str(error.value)
    return str(error.value)


def findings(path):
    return {found.kind: (found.text, *found.cases) for found in audit.examine(path).findings}


# Images: made at a path, and what is said.


def cut(path):
    Image.fromarray(noise(0)).save(path)
    path.write_bytes(path.read_bytes()[:200])


def bomb(path):
    Image.fromarray(noise(0)).save(path)
    data = path.read_bytes()
    head = data[:16] + (10_000).to_bytes(4, 'big') * 2 + data[24:29]
    path.write_bytes(head + zlib.crc32(head[12:]).to_bytes(4, 'big') + data[33:])


def animated(path):
    first, second = Image.fromarray(noise(0)), Image.fromarray(noise(1))
    first.save(path, save_all=True, append_images=[second])


def outside(path):
    Image.fromarray(noise(0)).save(path.parents[2] / 'outside.png')
    path.symlink_to(path.parents[2] / 'outside.png')


DAMAGED = {
    'zero-byte': (lambda path: path.write_bytes(b''), 'is not an image (it is empty)'),
    'truncated': (cut, 'is damaged'),
    'text': (lambda path: path.write_text('text', 'utf-8'), 'is not an image'),
    '16-bit': (lambda path: Image.fromarray(noise(0, (9, 9)).astype(np.uint16)).save(path), '8 bits'),
    'animated': (animated, 'holds 2 frames or pages'),
    'bomb': (bomb, 'has more than 89478485 pixels'),
    'leaving the folder': (outside, 'leads out of'),
    'symlink loop': (lambda path: path.symlink_to(path.name), 'symbolic links'),
    'dangling link': (lambda path: path.symlink_to('nowhere.png'), 'does not exist'),
    'pipe': (os.mkfifo, 'is a pipe and no file'),
}  # fmt: skip


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('case', DAMAGED)
def test_a_damaged_image_stops_or_is_listed(tmp_path, case, layout):
    make, message = DAMAGED[case]
    root = tmp_path / 'set'
    rows = [*sound(root), ['a/bad.png', 'a', 'train'], ['b/empty.png', 'b', 'val']]
    make(root / 'a' / 'bad.png')
    (root / 'b' / 'empty.png').write_bytes(b'')
    path = root if layout == 'folder' else table(root, rows)
    said = refused(path)
    assert 'a/bad.png' in said
    assert message in said
    assert '1 more of 14 images cannot be read. --config.data.on_damaged=exclude' in said
    data = load(path, on_damaged='exclude')
    assert [excluded.path for excluded in data.excluded] == ['a/bad.png', 'b/empty.png']
    assert message in data.excluded[0].reason
    assert sorted(data.ids.tolist()) == sorted(row[0] for row in rows[:12])
    for image, label, id_ in zip(data.images, data.labels, data.ids.tolist(), strict=True):
        assert data.class_names[label] == id_[0]
        assert image.tolist() == noise(int(id_[2:-4])).tolist()
    text, *cases = findings(path)['unreadable']
    assert text == 'images that cannot be read: 2'
    assert any('a/bad.png' in reason and message in reason for reason in cases)


def cmyk(path):
    Image.fromarray(noise(0)).convert('CMYK').save(path, 'JPEG')


def turned(path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise(0)).save(path, exif=exif)


ODD = {'CMYK': cmyk, 'EXIF': turned, 'suffix': lambda p: Image.fromarray(noise(0)).save(p, 'BMP')}


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('case', ODD)
def test_an_odd_image_is_read(tmp_path, case, layout):
    rows = [*sound(tmp_path)[1:], ['a/0.png', 'a', 'train']]
    ODD[case](tmp_path / 'a' / '0.png')
    path = tmp_path if layout == 'folder' else table(tmp_path, rows)
    data = load(path)
    assert data.excluded == ()
    (image,) = data.images[data.ids == 'a/0.png']
    expected = {'CMYK': noise(0), 'EXIF': np.rot90(noise(0), -1), 'suffix': noise(0)}[case]
    error = np.abs(image.astype(int) - expected).mean()
    assert error < (40 if case == 'CMYK' else 1)  # it is a JPEG of noise
    assert 'unreadable' not in findings(path)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_what_is_emptied_by_exclusion_is_refused(tmp_path, layout):
    rows = sound(tmp_path)
    path = tmp_path if layout == 'folder' else table(tmp_path, rows)
    for name, label, _ in rows:
        if label == 'b':
            (tmp_path / name).write_bytes(b'')
    assert "class 'b' of" in refused(path, on_damaged='exclude')
    if layout == 'csv':
        sound(tmp_path)
        for name, _, side in rows:
            if side == 'val':
                (tmp_path / name).write_bytes(b'')
        assert 'the val split of' in refused(path, on_damaged='exclude')


# Folders.


def test_links_to_folders_are_not_followed_and_not_passed_over(tmp_path):
    sound(tmp_path)
    (tmp_path / 'a' / 'round').symlink_to('..')
    assert 'a/round is a link to a folder, which is not followed' in refused(tmp_path)
    data = load(tmp_path, on_damaged='exclude')
    assert [excluded.path for excluded in data.excluded] == ['a/round']
    assert len(data.ids) == 12
    assert findings(tmp_path)['layout'][1:] == ('a/round',)


def test_names_that_no_table_holds_are_listed(tmp_path):
    sound(tmp_path)
    shutil.copy(tmp_path / 'a' / '0.png', os.fsencode(tmp_path / 'a') + b'/\xff.png')
    assert r"'a/\udcff.png', which no table can hold" in refused(tmp_path)
    (excluded,) = load(tmp_path, on_damaged='exclude').excluded
    assert excluded.path == r"'a/\udcff.png'"
    assert findings(tmp_path)['layout'][1:] == (r"'a/\udcff.png'",)


def test_other_files_and_hidden_folders_are_passed_over_aloud(tmp_path):
    sound(tmp_path)
    (tmp_path / '.ipynb_checkpoints').mkdir()
    shutil.copy(tmp_path / 'a' / '0.png', tmp_path / '.ipynb_checkpoints' / '0-checkpoint.png')
    (tmp_path / 'a' / 'scan.dcm').write_bytes(b'x')
    data = load(tmp_path)
    assert data.class_names == ('a', 'b')
    told = summary.text(summary.describe(data, {}))
    assert 'passed over: 1 .ipynb_checkpoints/, 1 .dcm' in told
    assert 'passed over: 1 .ipynb_checkpoints/, 1 .dcm' in ' '.join(audit.examine(tmp_path).notes)


def test_a_class_folder_without_images_is_named(tmp_path):
    sound(tmp_path)
    (tmp_path / 'c').mkdir()
    assert "class 'c' of" in refused(tmp_path)
    assert 'c (0)' in findings(tmp_path)['tiny']


# Tables: rows appended to the sound ones, what training says, and the audit's kind of finding or its refusal.

ROWS = {
    'duplicate id': ([['a/0.png', 'a', 'train']], "has the id 'a/0.png' more than once: every", 'ids'),
    'id in two splits': (
        [['a/0.png', 'a', 'test']],
        "has the id 'a/0.png' more than once (in the splits test and train)", 'leaks',
    ),
    'id written otherwise': ([['a/../a/0.png', 'a', 'test']], "'a/0.png' more than once (in", 'leaks'),
    'empty path': ([['', 'a', 'train']], 'line 14 of', 'rows'),
    'blank path': ([[' ', 'a', 'train']], 'line 14 of', 'rows'),
    'empty label': ([['a/x.png', '', 'train']], 'has no label in line 14', 'labels'),
    'label with an inner blank': (
        [['a/x.png', 'b  c', 'train'], ['a/0.png', 'b c', 'train']], "the labels 'b  c' and 'b c'", 'labels',
    ),
    'label in capitals': ([['a/x.png', 'A', 'train']], "the labels 'A' and 'a'", 'labels'),
    'label only tested': ([['a/x.png', 'c', 'test']], "class 'c' of", 'tiny'),
    'unknown split': ([['a/x.png', 'a', 'spare']], "unknown split 'spare'", 'splits'),
    'short row': ([['a/x.png', 'a']], 'line 14 of', 'rows'),
    'long row': ([['a/x.png', 'a', 'train', 'more']], 'line 14 of', 'rows'),
}  # fmt: skip


@pytest.mark.parametrize('case', ROWS)
def test_a_wrong_row_is_refused_and_found(tmp_path, case):
    rows, message, kind = ROWS[case]
    good = sound(tmp_path)
    Image.fromarray(noise(50)).save(tmp_path / 'a' / 'x.png')
    path = table(tmp_path, [*good, *rows])
    for on_damaged in ('stop', 'exclude'):
        assert message in refused(path, on_damaged=on_damaged)
    assert kind in findings(path)


@pytest.mark.parametrize(
    ('written', 'message'),
    [
        (r'C:\images\x.png', 'is a path of another machine'),
        (r'..\x.png', 'leads out of'),
        ('/etc/x.png', 'leads out of'),
        ('/home/of/nobody/x.png', 'is a path of another machine'),
        ('../x.png', 'leads out of'),
        (' a/x.png', 'does not exist'),
        ('a/none.png', 'does not exist'),
        ('a', 'Is a directory'),
        ('a/\0.png', 'is no path'),
    ],
)
def test_a_wrong_path_stops_or_is_listed(tmp_path, written, message):
    good = sound(tmp_path)
    Image.fromarray(noise(50)).save(tmp_path / 'a' / 'x.png')
    path = table(tmp_path, [*good, [written, 'a', 'train']])
    assert message in refused(path)
    data = load(path, on_damaged='exclude')
    assert [(bad.path, message in bad.reason) for bad in data.excluded] == [(written, True)]
    assert len(data.ids) == 12
    assert message in ' '.join(findings(path)['unreadable'])


def test_blanks_and_absolute_paths_inside_are_read(tmp_path):
    rows = sound(tmp_path)
    shutil.copy(tmp_path / 'a' / '0.png', tmp_path / 'a' / 'of one.png')
    rows[0][0], rows[1][0] = 'a/of one.png', str(tmp_path / 'b' / '1.png')
    assert load(table(tmp_path, rows)).ids[:2].tolist() == [rows[0][0], rows[1][0]]


FILES = {
    'latin-1': (dict(columns=('path', 'label', 'süß'), encoding='latin-1'), 'is not in UTF-8 (line 1'),
    'UTF-16': (dict(encoding='utf-16'), 'is in UTF-16: save it as UTF-8'),
    'UTF-16 without a mark': (dict(encoding='utf-16-le'), 'is in UTF-16: save it as UTF-8'),
    'no path': (dict(columns=('file', 'label', 'split')), 'has no column `path` (it has file'),
    'capital': (dict(columns=('path', 'label', 'Split')), "the column 'Split': write 'split'"),
    'blank': (dict(columns=('path', ' label', 'split')), "the column ' label': write 'label'"),
    'twice': (dict(columns=('path', 'label', 'label')), "has two columns 'label'"),
}  # fmt: skip


@pytest.mark.parametrize('case', FILES)
def test_a_wrong_table_is_refused_by_both_in_the_same_words(tmp_path, case):
    changes, message = FILES[case]
    path = table(tmp_path, sound(tmp_path), **changes)
    said = refused(path)
    assert message in said
    with pytest.raises(UserError) as error:
        audit.examine(path)
    assert str(error.value) == said


def test_a_table_without_labels_is_refused(tmp_path):
    rows = sound(tmp_path)
    for columns, cells in (
        (('path', 'split'), [[path, side] for path, _, side in rows]),
        (('path', 'label', 'split'), [[path, '', side] for path, _, side in rows]),
    ):
        path = table(tmp_path, cells, columns)
        assert 'has no labels: training needs them' in refused(path)
        assert 'labels' in findings(path)


@pytest.mark.parametrize('mark', ',;\t')
def test_a_quote_that_is_not_ended_swallows_no_rows(tmp_path, mark):
    """In a column that nothing reads, up to a quote in a later row: with the delimiters of every spreadsheet."""
    rows = [
        [*row, '"see' if i == 2 else 'so"' if i == 8 else '']
        for i, row in enumerate(sound(tmp_path))
    ]
    lines = [mark.join(row) for row in [['path', 'label', 'split', 'comment'], *rows]]
    (tmp_path / 'set.csv').write_text('\n'.join(lines) + '\n')
    assert 'a quoted cell that begins in line 4' in refused(tmp_path / 'set.csv')


def test_groups_by_another_name_are_not_passed_over(tmp_path):
    rows = [[name, label, 'p'] for name, label, _ in sound(tmp_path)]
    said = refused(table(tmp_path, rows, ('path', 'label', 'groups')))
    assert "has the column 'groups': write 'group'" in said
