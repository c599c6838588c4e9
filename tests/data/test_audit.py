"""The audit of one's own data: every fault is found, counted and named, and none ends it."""

import dataclasses
import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from audited import class_folders, examine, found, kinds, picture, save, table
from ltjax.data import audit, near_duplicates
from ltjax.data.audit import __main__ as command
from ltjax.data.audit import checks, report
from ltjax.data.prepared import records, writing
from ltjax.data.reading import arguments
from ltjax.errors import UserError

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
    refused = report.text(dataclasses.replace(result, refusal='no image is left.'))
    assert 'training stops: no image is left.' in refused
    assert 'nothing to mend' not in refused


def test_sizes_and_channels_are_told(tmp_path, capsys):
    root = class_folders(tmp_path)
    save(root / 'a' / 'wide.png', picture(90)[:24])
    save(root / 'b' / 'grey.png', picture(91)[..., 0])
    result = audit.examine(root)
    assert result.sizes == {'48x48': 19, '48x24': 1}
    assert result.channels == {'RGB': 19, 'grey': 1}
    assert any('image_size=224' in note for note in result.notes)
    assert any('channels=3' in note for note in result.notes)
    notes = ' '.join(examine(root, image_size=30).notes)
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
        'folders named as splits, beside others with images: 1 [Train]',
        'images outside the class folders, which stop the training: 1 [stray.png]',
        "names that cannot be written into a table, which were left out: 1 ['a/\\udcff.png']",
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
        (
            "clusters of exact duplicates on several sides of the split 'split': 1 "
            '[test/a/copy.png (test), train/a/0.png (train)]'
        ),
        (
            "clusters of near-duplicates on several sides of the split 'split': 1 "
            '[train/b/0.png (train), val/b/saved.jpg (val)]'
        ),
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
        writing.Item(f'i{i:02d}', i % 2, lambda i=i: picture(max(i, 1), 24), f'p{i // 2}')
        for i in range(16)
    ]
    sides = {item.id: ('train', 'train', 'test', 'val')[i // 2 % 4] for i, item in enumerate(items)}
    plan = writing.Plan(
        name='set', class_names=('a', 'b'), items=items, image_size=24, channels=3, licence='',
        origin='', splits={'clean': sides, '2_fold': {item.id: str(i % 2) for i, item in enumerate(items)}},
    )  # fmt: skip
    writing.write(tmp_path, plan, images_per_shard=5, report=lambda line: None)
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
    shard = tmp_path / records.read(tmp_path).manifest['shards'][0]['file']
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match='was changed'):
        audit.examine(tmp_path)


# The command


def test_no_image_is_written_over(tmp_path):
    (tmp_path / 'a').mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / 'a' / '0.png')
    before = (tmp_path / 'a' / '0.png').read_bytes()
    with pytest.raises(UserError, match='is what is read: write to another file'):
        command.main([str(tmp_path), f'--json={tmp_path / "a" / "0.png"}'])
    assert (tmp_path / 'a' / '0.png').read_bytes() == before


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


def test_the_limit_of_pixels_can_be_set(tmp_path):
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


def test_errors_name_the_flags_of_the_command():
    keys = '--config.data.columns.label=NAME, --config.data.images=FOLDER, --config.data.subfolders=group'
    with pytest.raises(UserError) as error, arguments.in_own_words():
        raise UserError(f'{keys} and --config.data.mean=0.5')
    flags = (
        '--columns=label=NAME, --images-in=FOLDER, --subfolders=group and --config.data.mean=0.5'
    )
    assert str(error.value) == flags
