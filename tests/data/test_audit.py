"""The audit of one's own data: every fault is found, counted and named, and none ends it."""

import csv
import json
import os
import pathlib
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from ltjax.data import audit, near_duplicates, prepare, prepared
from ltjax.data.audit import __main__ as command
from ltjax.data.audit import checks, report
from ltjax.data.near_duplicates import Clusters
from ltjax.errors import UserError


def picture(number, size=48):
    """A smooth picture that is like no other, uint8 [size, size, 3]."""
    coarse = np.random.default_rng(number).integers(20, 236, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def class_folders(root, counts=(8, 6, 4), start=0):
    number = start
    for k, count in enumerate(counts):
        for i in range(count):
            save(root / 'abc'[k] / f'{i}.png', picture(number))
            number += 1
    return root


def table(path, columns, rows, encoding='utf-8'):
    with path.open('w', newline='', encoding=encoding) as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def listed(tmp_path, number=12):
    for i in range(number):
        save(tmp_path / 'images' / f'{i}.png', picture(i))
    return [[f'images/{i}.png', 'ab'[i % 2]] for i in range(number)]


def found(path, kind, **options):
    """Returns the findings of a kind as text."""
    return [
        f'{finding.text} [{"; ".join(finding.cases)}]'
        for finding in audit.examine(path, threads=2, **options).findings
        if finding.kind == kind
    ]


def kinds(path, **options):
    return [finding.kind for finding in audit.examine(path, threads=2, **options).findings]


# What is counted


def test_a_clean_folder_has_nothing_to_mend(tmp_path, capsys):
    root = class_folders(tmp_path / 'set')
    result = audit.examine(root)
    assert result.findings == []
    assert result.counts == {'a': 8, 'b': 6, 'c': 4}
    assert result.imbalance == 2
    assert result.class_groups == {'head': ('a',), 'medium': ('b',), 'tail': ('c',)}
    assert result.sizes == {'48x48': 18}
    assert result.channels == {'RGB': 18}
    assert result.exact == result.near == []
    assert command.main([str(root)]) == 0
    printed = capsys.readouterr().out
    assert 'nothing to mend' in printed
    assert printed.index('class ') < printed.index('sizes') < printed.index('suggested split')


def test_sizes_and_channels_are_told(tmp_path, capsys):
    root = class_folders(tmp_path)
    save(root / 'a' / 'wide.png', picture(90)[:24])
    save(root / 'b' / 'grey.png', picture(91)[..., 0])
    result = audit.examine(root)
    assert result.sizes == {'48x48': 19, '48x24': 1}
    assert result.channels == {'RGB': 19, 'grey': 1}
    assert any('image_size=224' in note for note in result.notes)
    assert any('channels=3' in note for note in result.notes)
    notes = ' '.join(audit.examine(root, image_size=30).notes)
    assert 'smaller than 30 pixels, which are enlarged: 1' in notes
    assert 'up to 2.00 times' in notes


def test_many_classes_are_shortened_but_counted(tmp_path, capsys):
    rows = [[f'{k}.png', f'class{k:03d}'] for k in range(70)]
    assert command.main([str(table(tmp_path / 'set.csv', ['path', 'label'], rows))]) == 1
    printed = capsys.readouterr().out
    assert '... 10 classes more ...' in printed
    assert 'images that cannot be read: 70' in printed
    assert 'and 65 more' in printed


# Images


def test_every_unreadable_image_is_counted(tmp_path):
    root = class_folders(tmp_path / 'set')
    outside = save(tmp_path / 'outside.png', picture(50))
    (root / 'a' / 'empty.png').write_bytes(b'')
    (root / 'a' / 'text.jpg').write_text('text', 'utf-8')
    whole = (root / 'a' / '0.png').read_bytes()
    (root / 'b' / 'cut.png').write_bytes(whole[: len(whole) // 2])
    (root / 'b' / 'loop.png').symlink_to('loop.png')
    (root / 'b' / 'gone.png').symlink_to('nowhere.png')
    (root / 'c' / 'out.png').symlink_to(outside)
    (root / 'c' / 'round').symlink_to('..')
    save(root / 'c' / 'black.png', np.zeros((9, 9, 3), np.uint8))
    (text, blank) = found(root, 'unreadable')
    assert text.startswith('images that cannot be read: 6 [')
    for part in ('empty.png', 'text.jpg', 'cut.png', 'loop.png', 'gone.png', 'leads out of'):
        assert part in text
    assert blank == 'images of one colour: 1 [c/black.png]'
    assert found(root, 'layout') == ['links to folders, which are not followed: 1 [c/round]']
    (fewer, _) = found(root, 'unreadable', allow_outside=True)
    assert fewer.startswith('images that cannot be read: 5 [')


def test_an_unforeseen_error_ends_no_audit(tmp_path, monkeypatch):
    root = class_folders(tmp_path)
    decode = audit.near_duplicates.thumbnail
    calls = []

    def failing(image):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError('of no kind\nthat was thought of')
        return decode(image)

    monkeypatch.setattr(near_duplicates, 'thumbnail', failing)
    assert found(root, 'unreadable') == [
        'images that cannot be read: 1 [RuntimeError: of no kind that was thought of]'
    ]


def test_nothing_readable_is_a_finding(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / 'x.png').write_bytes(b'')
    assert 'no image can be read []' in found(tmp_path, 'unreadable')
    result = audit.examine(tmp_path)
    assert 'no split is suggested: no image that can be read has a label.' in result.notes
    (tmp_path / 'a' / 'x.png').unlink()
    assert 'no image can be read []' in found(tmp_path, 'unreadable')


# Folders


def test_what_lies_elsewhere_in_a_folder_is_told(tmp_path):
    root = class_folders(tmp_path)
    save(root / 'stray.png', picture(60))
    (root / 'a' / 'notes.txt').write_text('x', 'utf-8')
    (root / 'a' / 'scan.DCM').write_bytes(b'x')
    (root / 'Train').mkdir()
    shutil.copy(root / 'a' / '0.png', os.fsencode(root / 'a') + b'/\xff.png')
    assert found(root, 'layout') == [
        'images outside the class folders, which stop the training: 1 [stray.png]',
        "names that cannot be written into a table, which were left out: 1 ['a/\\udcff.png']",
        'folders named as splits, which count as classes: 1 [Train]',
    ]
    assert found(root, 'tiny')[0].endswith('[Train (0)]')
    assert 'files that are passed over: 1 .txt, 1 .dcm' in audit.examine(root).notes


def test_a_folder_of_splits_is_checked_for_leaks_and_absent_classes(tmp_path):
    for i, side in enumerate(('train', 'val', 'test')):
        class_folders(tmp_path / side, start=20 * i)
    assert kinds(tmp_path) == []
    assert audit.examine(tmp_path).suggestion is None
    shutil.copy(tmp_path / 'train' / 'a' / '0.png', tmp_path / 'test' / 'a' / 'copy.png')
    Image.open(tmp_path / 'train' / 'b' / '0.png').save(tmp_path / 'val' / 'b' / 'saved.jpg')
    shutil.rmtree(tmp_path / 'val' / 'c')
    assert found(tmp_path, 'leaks') == [
        "clusters of exact duplicates on several sides of the split 'split': 1 "
        '[test/a/copy.png (test), train/a/0.png (train)]',
        "clusters of near-duplicates on several sides of the split 'split': 1 "
        '[train/b/0.png (train), val/b/saved.jpg (val)]',
    ]
    assert found(tmp_path, 'tiny') == [
        "classes without a val image in the split 'split': 1 [c]"
    ]  # fmt: skip
    result = audit.examine(tmp_path)
    assert result.split_counts['split']['test'] == [9, 6, 4]
    assert result.imbalance == 2
    sides = result.suggestion.sides
    assert sides['train/a/0.png'] == sides['test/a/copy.png']


def test_a_folder_without_class_folders_has_no_labels(tmp_path):
    save(tmp_path / 'x.png', picture(0))
    assert found(tmp_path, 'labels') == ['images without a label: 1 [x.png]']


# CSV


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
def test_a_csv_of_utf_8_is_read(tmp_path, encoding):
    rows = [[path, {'a': 'naevus', 'b': 'Läsion'}[label]] for path, label in listed(tmp_path)]
    result = audit.examine(table(tmp_path / 'set.csv', ['path', 'label'], rows, encoding))
    assert result.counts == {'Läsion': 6, 'naevus': 6}
    assert result.findings == []


def test_what_cannot_be_read_at_all_is_refused_in_a_line(tmp_path, capsys):
    rows = [['a.png', 'Läsion']]
    columns = ['path', 'label']
    bad = {
        table(tmp_path / 'l.csv', columns, rows, 'latin-1'): r'l.csv is not in UTF-8 (line 2, byte 0xe4',
        table(tmp_path / 'u.csv', columns, rows, 'utf-16'): 'u.csv is in UTF-16: save it as UTF-8',
        table(tmp_path / 's.csv', ['path;label'], [['a;b']]): 'no column `path` separated by commas',
        table(tmp_path / 'f.csv', ['file', 'label'], rows): 'has no column `path` (it has file, label)',
        tmp_path / 'absent': 'absent does not exist',
        save(tmp_path / 'x.png', picture(0)): 'is no folder, .csv or .npz',
    }  # fmt: skip
    (tmp_path / 'x.npz').write_bytes(b'')
    (tmp_path / 'half').mkdir()
    (tmp_path / 'half' / 'unfinished.json').write_text('{}', 'utf-8')
    bad |= {tmp_path / 'x.npz': 'is not a readable npz', tmp_path / 'half': 'is not finished'}
    for path, message in bad.items():
        assert command.main([str(path)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith('error: ')
        assert error.count('\n') == 1


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
        'rows that have not 2 columns, or no path: 3 [row 14; row 15; row 16]'
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
        'images without a label: 1 [images/0.png]',
        "classes that are spelled in several ways: 2 ['B', 'b'; 'a', 'a ']",
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
        'clusters of exact duplicates with several labels: 2 '
        '[images/0.png (a), images/copy.png (b); images/5.png (b), images/5.png (a)]',
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
        row[2] = {'test': 'dev'}.get(row[2], row[2])
    assert found(table(path, columns, rows), 'splits') == [
        "images of the unknown split 'dev' (use train, val or test): 4 []",
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


# Near-duplicates


def changed(pixels, path):
    image = Image.fromarray(pixels)
    save(path / 'q.jpg', pixels, quality=50)
    bright = np.clip(pixels * 1.15, 0, 255).astype(np.uint8)
    noisy = np.clip(pixels + np.random.default_rng(0).normal(0, 4, pixels.shape), 0, 255)
    return {
        'jpeg': np.asarray(Image.open(path / 'q.jpg')),
        'half': np.asarray(image.resize((60, 60))),
        'twice': np.asarray(image.resize((240, 240))),
        'bright': bright,
        'noisy': noisy.astype(np.uint8),
    }


def test_copies_that_were_saved_resized_or_lit_otherwise_are_found_and_others_are_not(tmp_path):
    originals = [picture(i, 120) for i in range(60)]
    for name in changed(originals[0], tmp_path):
        copies = [changed(pixels, tmp_path)[name] for pixels in originals[:12]]
        thumbnails = np.stack([near_duplicates.thumbnail(p) for p in originals + copies])
        pairs = np.concatenate(list(near_duplicates.pairs(thumbnails)))
        assert sorted(map(sorted, pairs.tolist())) == [[i, 60 + i] for i in range(12)], name


def test_small_objects_on_one_background_are_told_apart():
    field = np.full((64, 64, 1), 230, np.uint8)
    spots = []
    for y, x in ((10, 10), (10, 44), (44, 10), (44, 44), (26, 26)):
        spots.append(field.copy())
        spots[-1][y : y + 10, x : x + 10] = 60
    thumbnails = np.stack([near_duplicates.thumbnail(image) for image in spots])
    bits = near_duplicates.hashes(thumbnails)
    assert (bits[0] != bits[1]).sum() <= near_duplicates.MAX_DISTANCE  # the hash would not
    assert sum(map(len, near_duplicates.pairs(thumbnails))) == 0
    flat = np.stack([near_duplicates.thumbnail(field - k) for k in range(4)])
    assert sum(map(len, near_duplicates.pairs(flat))) == 0


@pytest.mark.parametrize('distance', [3, 24, 60])
def test_pairs_are_those_of_a_plain_comparison(monkeypatch, distance):
    monkeypatch.setattr(near_duplicates, '_ROWS', 7)
    monkeypatch.setattr(near_duplicates, '_COLUMNS', 11)
    monkeypatch.setattr(near_duplicates, '_PAIRS', 5)
    monkeypatch.setattr(near_duplicates, 'MIN_CORRELATION', 0.9)
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (12, 16, 17)).repeat(6, axis=0)
    noise = rng.normal(0, np.arange(72)[:, None, None] % 6 * 8, base.shape)
    thumbnails = np.clip(base + noise, 0, 255).astype(np.uint8)
    bits = near_duplicates.hashes(thumbnails)
    expected = {
        (i, j)
        for i in range(72)
        for j in range(i)
        if (bits[i] != bits[j]).sum() <= distance
        and np.corrcoef(thumbnails[i].ravel(), thumbnails[j].ravel())[0, 1] >= 0.9
    }
    pairs = np.concatenate(list(near_duplicates.pairs(thumbnails, distance))).tolist()
    assert {(max(pair), min(pair)) for pair in pairs} == expected
    assert len(pairs) == len(expected) > 0


def test_clusters_are_joined():
    clusters = Clusters(6)
    clusters.join(4, 2)
    clusters.join_equal(np.array(['x', '', '', 'x', 'y', 'y']))
    assert clusters.labels().tolist() == [0, 1, 2, 0, 2, 2]
    assert clusters.several() == [[0, 3], [2, 4, 5]]


# npz and prepared sets


def test_an_npz_is_audited(tmp_path):
    images = np.stack([picture(i, 20) for i in range(12)])
    images[7] = images[0]
    arrays = {'images': images, 'labels': np.arange(12) % 2}
    np.savez(tmp_path / 'set.npz', **arrays)
    result = audit.examine(tmp_path / 'set.npz')
    assert result.counts == {'class 0': 6, 'class 1': 6}
    assert result.exact == [('000000', '000007')]
    assert [finding.kind for finding in result.findings] == ['conflicts', 'duplicates']
    np.savez(tmp_path / 'set.npz', group=np.arange(12) % 7, **arrays)
    assert kinds(tmp_path / 'set.npz') == ['conflicts']
    np.savez(tmp_path / 'set.npz', images=images)
    assert kinds(tmp_path / 'set.npz')[0] == 'labels'


def test_a_prepared_set_is_audited_by_protocol(tmp_path):
    items = [
        prepare.Item(f'i{i:02d}', i % 2, lambda i=i: picture(max(i, 1), 24), f'p{i // 2}')
        for i in range(16)
    ]
    sides = {item.id: ('train', 'train', 'test', 'val')[i // 2 % 4] for i, item in enumerate(items)}
    plan = prepare.Plan(
        name='set', class_names=('a', 'b'), items=items, image_size=24, channels=3, licence='',
        origin='', splits={'clean': sides, '2_fold': {item.id: str(i % 2) for i, item in enumerate(items)}},
    )  # fmt: skip
    prepare.write(tmp_path, plan, images_per_shard=5, report=lambda line: None)
    result = audit.examine(tmp_path)
    assert result.layout == 'prepared'
    assert result.counts == {'a': 8, 'b': 8}
    assert result.exact == [('i00', 'i01')]
    leak, again = found(tmp_path, 'leaks')
    assert leak.startswith("groups on several sides of the split '2_fold': 8 [i00 (0), i01 (1);")
    assert again.startswith(
        "clusters of exact duplicates on several sides of the split '2_fold': 1"
    )
    assert 'split clean: train 8, val 4, test 4' in report.text(result)
    shard = tmp_path / prepared.read(tmp_path).manifest['shards'][0]['file']
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match='was changed'):
        audit.examine(tmp_path)


# The split


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
        capsys.readouterr()
        assert command.main([str(path), '--write-split', str(wrong)]) == 2
        assert message in capsys.readouterr().err
    assert command.main([str(path), '--write-split', str(root / 'y.csv'), '--test=0.99']) == 2
    assert 'y.csv is not written' in capsys.readouterr().err
    assert not (root / 'y.csv').exists()


def test_other_sets_get_ids_and_sides(tmp_path):
    images = np.stack([picture(i, 20) for i in range(12)])
    np.savez(tmp_path / 'set.npz', images=images, labels=np.arange(12) % 2)
    target = tmp_path / 'split.csv'
    assert command.main([str(tmp_path / 'set.npz'), '--write-split', str(target)]) == 0
    rows = rows_of(target)
    assert list(rows[0]) == ['id', 'split']
    assert [row['id'] for row in rows] == [f'{i:06d}' for i in range(12)]


# The command


def test_everything_is_in_the_json(tmp_path, capsys):
    root = class_folders(tmp_path / 'set')
    for i in range(7):
        (root / 'a' / f'bad{i}.png').write_bytes(b'')
    assert command.main([str(root), '--json', str(tmp_path / 'o.json')]) == 1
    values = json.loads((tmp_path / 'o.json').read_text('utf-8'))
    assert values['counts'] == {'a': 15, 'b': 6, 'c': 4}
    (finding,) = values['findings']
    assert finding['kind'] == 'unreadable'
    assert len(finding['cases']) == 7
    assert len(values['suggestion']['sides']) == 18
    assert 'and 2 more' in capsys.readouterr().out


def test_the_limit_of_pixels_can_be_set(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', Image.MAX_IMAGE_PIXELS)
    root = class_folders(tmp_path)
    assert command.main([str(root), '--max-pixels', '2304']) == 0
    assert command.main([str(root), '--max-pixels', '2303']) == 1


def test_the_result_does_not_depend_on_threads(tmp_path):
    root = class_folders(tmp_path)
    (root / 'a' / 'bad.png').write_bytes(b'')
    assert audit.examine(root, threads=1) == audit.examine(root, threads=7)


def test_progress_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(audit, '_AT_ONCE', 5)
    monkeypatch.setattr(audit, '_REPORT_EVERY', 10)
    lines = []
    audit.examine(class_folders(tmp_path), report=lines.append)
    assert lines == ['10 of 18 images']


def test_every_kind_of_finding_is_documented():
    text = (pathlib.Path(__file__).parents[2] / 'docs' / 'data.md').read_text('utf-8')
    for kind in checks.KINDS:
        assert f'`{kind}`' in text
