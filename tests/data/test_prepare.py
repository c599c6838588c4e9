"""One's own data as a prepared set: what is trained on, audited and predicted is as from the files themselves."""

import json
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tiny
from ltjax.data import audit, prepare
from ltjax.data.prepared import records
from ltjax.errors import UserError
from own_data.sets import folder, load, pictures, pixels, save, table


def prepared(path, *flags):
    out = path.parent / 'set'
    prepare.main([str(path), f'--out={out}', *flags])
    return out


def as_folder(root):
    path = folder(root / 'photos', {'b': 14, 'a10': 9, 'a9': 7})
    save(path / 'b' / 'again.png', 2)  # equal to b/2.png
    return path


def as_folder_with_split(root):
    for number, side in enumerate(('train', 'val', 'test')):
        folder(root / 'photos' / side, {'b': 6, 'a': 5}, start=20 * number)
    return root / 'photos'


def as_csv(root):
    names = pictures(root, 30)
    rows = [
        (name, ('3', '1.0', '2')[at % 3], f'p{at // 2}' if at % 5 else '', ('x', 'y')[at % 2])
        for at, name in enumerate(names)
    ]
    return table(root / 'list.csv', ('path', 'label', 'group', 'site'), rows)


def as_csv_of_folds(root):
    names = pictures(root, 30)
    rows = [(name, 'ab'[at % 2], str(at % 3)) for at, name in enumerate(names)]
    return table(root / 'list.csv', ('path', 'label', 'split'), rows)


def as_npz(root):
    images = np.stack([pixels(number) for number in range(30)])
    groups = np.random.default_rng(3).integers(0, 40, 30)
    np.savez(root / 'a.npz', images=images, labels=np.arange(30) % 3, group=groups)
    return root / 'a.npz'


@pytest.mark.parametrize('make', [as_folder, as_folder_with_split, as_csv, as_csv_of_folds, as_npz])
@pytest.mark.parametrize('encoding', ['png', 'raw'])
def test_it_is_the_same_set(tmp_path, make, encoding, capsys):
    path = make(tmp_path)
    further = ('site',) if make is as_csv else ()
    flags = ['--image-size=6', f'--encoding={encoding}', f'--further={",".join(further)}']
    out = prepared(path, *flags)
    assert f'train: ltjax train --config=METHOD:prepared --config.data.path={out}' in (
        said := capsys.readouterr().out
    )
    assert 'JPEG' not in said
    changes = {'further': further, 'split__fold': 1 if make is as_csv_of_folds else 0}
    theirs = load(path, image_size=6, **changes)
    ours = load(out, format='prepared', **changes)
    np.testing.assert_array_equal(ours.images, theirs.images)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert ours.ids.tolist() == theirs.ids.tolist()
    assert ours.class_names == theirs.class_names
    assert ours.table.ordered == theirs.table.ordered
    assert (ours.groups is None) == (theirs.groups is None)
    if ours.groups is not None:
        assert ours.groups.tolist() == theirs.groups.tolist()
    for part, rows in theirs.parts.items():
        assert ours.parts[part].tolist() == rows.tolist()
    for name, column in theirs.columns.items():
        assert ours.columns[name].texts().tolist() == column.texts().tolist()
    assert ours.raw.digests.tolist() == theirs.raw.digests.tolist()
    records.read(out).verify()


def test_folds_and_drawn_splits_keep_groups_as_from_the_files(tmp_path):
    path = as_npz(tmp_path)
    out = prepared(path)
    for changes in ({'split__folds': 3, 'split__fold': 2}, {'split__seed': 5}):
        theirs = load(path, **changes)
        ours = load(out, format='prepared', **changes)
        assert {k: v.tolist() for k, v in ours.parts.items()} == {
            k: v.tolist() for k, v in theirs.parts.items()
        }


def test_a_split_that_leaks_is_refused_as_in_the_files(tmp_path):
    names = pictures(tmp_path, 12)
    rows = [
        (name, 'ab'[at % 2], ('train', 'val', 'test')[at // 4], 'p')
        for at, name in enumerate(names)
    ]
    path = table(tmp_path / 'list.csv', ('path', 'label', 'split', 'group'), rows)
    out = prepared(path)
    with pytest.raises(UserError, match='1 groups lie on two sides of the split'):
        load(out, format='prepared')
    assert any(finding.kind == 'leaks' for finding in audit.examine(out).findings)


def test_jpeg_is_nearly_the_same_and_says_so(tmp_path, capsys):
    path = as_folder(tmp_path)
    out = prepared(path, '--encoding=jpeg')
    assert 'note: JPEG changes pixels' in capsys.readouterr().out
    ours, theirs = load(out, format='prepared'), load(path)
    assert not np.array_equal(ours.images, theirs.images)
    assert ours.parts['test'].tolist() == theirs.parts['test'].tolist()


def test_the_audit_says_the_same(tmp_path):
    path = as_folder(tmp_path)
    found = [audit.examine(each) for each in (path, prepared(path))]
    assert found[0].findings == found[1].findings
    assert found[0].counts == found[1].counts
    assert found[0].sizes == found[1].sizes


def test_sizes_and_channels_stay_as_they_are_or_must_be_said(tmp_path):
    path = as_folder(tmp_path)
    save(path / 'b' / 'large.png', 99, size=9)
    with pytest.raises(UserError, match=r'large.png is 9x9 and .* is 8x8: set --image-size=224'):
        prepared(path)
    assert load(prepared(path, '--image-size=5'), format='prepared').images.shape[1:] == (5, 5, 3)


def test_what_cannot_be_read_stops_it_or_is_listed(tmp_path, capsys):
    path = as_folder(tmp_path)
    (path / 'b' / '3.png').write_bytes(b'')
    with pytest.raises(UserError, match=r'b/3.png is not an image.*--on-damaged=exclude'):
        prepared(path)
    out = prepared(path.rename(tmp_path / 'p2'), '--on-damaged=exclude')
    assert 'excluded: b/3.png: ' in capsys.readouterr().out
    assert 'b/3.png' not in load(out, format='prepared').ids.tolist()


def test_unlabelled_images_are_left_out_if_asked(tmp_path):
    names = pictures(tmp_path, 20)
    rows = [
        (name, ('a', 'b', 'NA')[min(at % 7, 2)] if at % 2 else 'ab'[at % 4 // 2])
        for at, name in enumerate(names)
    ]
    path = table(tmp_path / 'list.csv', ('path', 'label'), rows)
    with pytest.raises(UserError, match='has no label in line'):
        prepared(path)
    out = prepared(path, '--on-unlabelled=exclude')
    manifest = json.loads((out / 'manifest.json').read_text('utf-8'))
    assert set(manifest['excluded'].values()) == {"no label ('NA')"}
    assert (
        load(out, format='prepared').ids.tolist()
        == load(path, on_unlabelled='exclude').ids.tolist()
    )


def test_mistakes_are_named(tmp_path):
    path = as_folder(tmp_path)
    with pytest.raises(UserError, match='lies in the data'):
        prepare.main([str(path), f'--out={path / "set"}'])
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'letter.txt').write_text('', 'utf-8')
    with pytest.raises(UserError, match='holds other files'):
        prepare.main([str(path), f'--out={tmp_path / "other"}'])
    with pytest.raises(UserError, match='is no folder: give another --out'):
        prepare.main([str(path), f'--out={tmp_path / "other" / "letter.txt"}'])
    out = prepared(path)
    with pytest.raises(UserError, match='is prepared already'):
        prepare.main([str(out), f'--out={tmp_path / "again"}'])
    with pytest.raises(UserError, match='holds another set or other settings'):
        prepared(path, '--image-size=5')
    with pytest.raises(UserError, match='was prepared at 8 px, and 9 are asked for'):
        load(out, format='prepared', image_size=9)


def test_mistakes_name_the_flags_of_the_command(tmp_path):
    images = np.zeros((4, 8, 8), np.uint8)
    np.savez(tmp_path / 'a.npz', images=images, labels=np.array([0, 1, -1, 0]))
    with pytest.raises(UserError, match='leave such images out with --on-unlabelled=exclude'):
        prepare.main([str(tmp_path / 'a.npz'), f'--out={tmp_path / "set"}'])


def test_files_that_changed_since_are_written_anew(tmp_path):
    path = as_folder(tmp_path)
    prepared(path)
    before = load(tmp_path / 'set', format='prepared')
    save(path / 'b' / '9.png', 77)
    after = load(prepared(path), format='prepared')
    changed = np.flatnonzero((after.images != before.images).any(axis=(1, 2, 3)))
    assert after.ids[changed].tolist() == ['b/9.png']
    np.testing.assert_array_equal(after.images, load(path).images)


# Takes two seconds and more, however busy the machine is: who sends it a signal finds it at work.
SLOWLY = """
import signal, sys, time
# Of a background job, as a shell may run these tests, Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from ltjax.data import prepare
from ltjax.data.reading import decoding
decode = decoding.one
decoding.one = lambda *given: (time.sleep(0.004), decode(*given))[1]
sys.argv = ['ltjax.data.prepare', *sys.argv[1:]]
prepare.cli()
"""


def start(path, out):
    return subprocess.Popen(
        [sys.executable, '-c', SLOWLY, str(path), f'--out={out}', '--image-size=64'],
        cwd=tiny.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.processes
def test_killed_and_started_again_it_goes_on(tmp_path):
    """Until it is through, the set is not taken for a whole one; then it is what it is without a kill."""
    path = folder(tmp_path / 'photos', {'a': 1100, 'b': 1000})
    out, whole = tmp_path / 'set', tmp_path / 'whole'
    for shards in (0, 1):
        program = start(path, out)
        until = time.monotonic() + 100
        while len(list(out.glob('*.array_record'))) < shards or not any(out.glob('*.partial')):
            assert program.poll() is None, program.communicate()
            assert time.monotonic() < until
            time.sleep(0.002)
        program.send_signal(signal.SIGKILL)
        program.communicate()
        with pytest.raises(UserError):
            records.read(out)
    for each in (out, whole):
        prepare.main([str(path), f'--out={each}', '--image-size=64'])
    for file in sorted(whole.rglob('*')):
        if file.is_file():
            assert file.read_bytes() == (out / file.relative_to(whole)).read_bytes()
    assert {p.name for p in out.iterdir()} == {p.name for p in whole.iterdir()}


@pytest.mark.slow
@pytest.mark.processes
def test_ctrl_c_ends_at_once(tmp_path):
    path = folder(tmp_path / 'photos', {'a': 1100, 'b': 1000})
    program = start(path, tmp_path / 'set')
    while not any((tmp_path / 'set').glob('*.partial')):
        assert program.poll() is None
        time.sleep(0.01)
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=100)
    assert program.returncode == 130
    assert said == 'interrupted: the same command goes on\n'


def test_a_full_disk_is_one_line_and_it_goes_on(tmp_path, monkeypatch, capsys):
    path = folder(tmp_path / 'photos', {'a': 6, 'b': 6})
    flags = [
        'prepare',
        str(path),
        f'--out={tmp_path / "set"}',
        '--image-size=200',
        '--encoding=raw',
    ]
    monkeypatch.setattr(sys, 'argv', flags)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
    try:
        with pytest.raises(SystemExit) as end:
            prepare.cli()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'File too large' in line
    assert 'Mend that, and give the same command again: it goes on.' in line
    with pytest.raises(UserError, match='holds no prepared set'):
        records.read(tmp_path / 'set')
    prepare.cli()
    assert len(load(tmp_path / 'set', format='prepared', split__val=0.2).ids) == 12
