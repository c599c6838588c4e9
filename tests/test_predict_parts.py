"""Predictions of many images: part by part, with the same bits, and after a kill from the last part on."""

import csv
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

import tiny
from ltjax import predict
from ltjax.data import prepare
from ltjax.data.reading import decoding, npz
from ltjax.errors import UserError
from ltjax.run import applying, trained
from own_data.sets import pixels, save, table

pytestmark = pytest.mark.slow

NAMES = ('mel', 'bkl', 'nv')
NUMBER = 70


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    return tiny.run_of(tmp_path_factory.mktemp('run'), NAMES)


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 16 images, in batches of 8."""
    monkeypatch.setattr(trained, 'BATCH_SIZE', 8)
    monkeypatch.setattr(trained, '_PART_BYTES', 2 * 8 * 12 * 12)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp('photos') / 'photos'
    for number in range(NUMBER):
        save(root / NAMES[number % 3] / f'{number:03d}.png', number, size=14)
    return root


def copied(photos, root):
    for path in photos.rglob('*.png'):
        (root / path.parent.name).mkdir(parents=True, exist_ok=True)
        (root / path.parent.name / path.name).write_bytes(path.read_bytes())
    return root


def call(workdir, data, out, *more):
    predict.main([f'--workdir={workdir}', f'--data={data}', f'--out={out}', *more])
    with np.load(out) as arrays:
        return dict(arrays)


def as_folder(photos, root):
    return photos


def as_csv(photos, root):
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob('*.png'))
    return table(
        photos / 'list.csv', ['path', 'label'], [[name, name.split('/')[0]] for name in names]
    )


def as_npz(photos, root):
    images = np.stack([pixels(number, 14) for number in range(NUMBER)])
    np.savez(root / 'a.npz', images=images, group=np.arange(NUMBER) // 2)
    return root / 'a.npz'


def as_prepared(photos, root):
    prepare.main([str(photos), f'--out={root / "set"}'])
    return root / 'set'


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize('make', [as_folder, as_csv, as_npz, as_prepared])
def test_an_interrupted_one_goes_on_with_the_same_bits(
    make, workdir, photos, tmp_path, small_parts, monkeypatch, capsys
):
    data, out = make(photos, tmp_path), tmp_path / 'out.npz'
    expected = call(workdir, data, tmp_path / 'whole.npz', '--features')
    monkeypatch.setattr(trained, '_PART_BYTES', 1 << 40)  # four batches a part
    same(call(workdir, data, tmp_path / 'other.npz', '--features'), expected)
    monkeypatch.setattr(trained, '_PART_BYTES', 2 * 8 * 12 * 12)
    real, parts = applying._applied, []

    def ends(part, forward, features):
        parts.append(part.stop)
        if len(parts) == 3:
            raise KeyboardInterrupt
        return real(part, forward, features)

    with monkeypatch.context() as patch:
        patch.setattr(applying, '_applied', ends)
        with pytest.raises(KeyboardInterrupt):
            call(workdir, data, out, '--features')
    assert parts == [16, 32, 48]
    assert not out.exists()
    assert len(list((tmp_path / 'out.npz.parts').iterdir())) == 2
    capsys.readouterr()
    same(call(workdir, data, out, '--features'), expected)
    assert f'32 of {NUMBER} images were done before' in capsys.readouterr().err
    assert not (tmp_path / 'out.npz.parts').exists()


def interrupted(workdir, data, out, monkeypatch, after=2):
    real, parts = applying._applied, []

    def ends(part, forward, features):
        parts.append(part)
        if len(parts) > after:
            raise KeyboardInterrupt
        return real(part, forward, features)

    with monkeypatch.context() as patch:
        patch.setattr(applying, '_applied', ends)
        with pytest.raises(KeyboardInterrupt):
            call(workdir, data, out)


def test_parts_of_changed_files_are_made_anew(
    workdir, photos, tmp_path, small_parts, monkeypatch, capsys
):
    data, out = copied(photos, tmp_path / 'copy'), tmp_path / 'out.npz'
    interrupted(workdir, data, out, monkeypatch)
    ids = sorted(path.relative_to(data).as_posix() for path in data.rglob('*.png'))
    save(data / ids[20], 999, size=14)  # in the second part
    capsys.readouterr()
    found = call(workdir, data, out)
    assert '16 of 70 images were done before' in capsys.readouterr().err
    same(found, call(workdir, data, tmp_path / 'whole.npz'))


def test_parts_of_an_npz_that_was_written_again_are_not_taken(
    workdir, photos, tmp_path, small_parts, monkeypatch, capsys
):
    data, out = as_npz(photos, tmp_path), tmp_path / 'out.npz'
    interrupted(workdir, data, out, monkeypatch)
    np.savez(data, images=np.stack([pixels(900 + number, 14) for number in range(NUMBER)]))
    capsys.readouterr()
    found = call(workdir, data, out)
    assert 'were done before' not in capsys.readouterr().err
    same(found, call(workdir, data, tmp_path / 'whole.npz'))


@pytest.mark.parametrize('how', ['cut', 'other flags', 'other images'])
def test_parts_of_something_else_are_not_taken(
    how, workdir, photos, tmp_path, small_parts, monkeypatch, capsys
):
    data, out, flags = copied(photos, tmp_path / 'copy'), tmp_path / 'out.npz', []
    interrupted(workdir, data, out, monkeypatch)
    first = tmp_path / 'out.npz.parts' / '000000.npz'
    if how == 'cut':
        first.write_bytes(first.read_bytes()[:-30])
    elif how == 'other flags':
        flags = ['--features']
    else:
        save(data / 'nv' / 'new.png', 999, size=14)
    capsys.readouterr()
    found = call(workdir, data, out, *flags)
    assert 'were done before' not in capsys.readouterr().err
    same(found, call(workdir, data, tmp_path / 'whole.npz', *flags))


def test_damaged_images_are_told_and_listed_as_without_parts(
    workdir, photos, tmp_path, small_parts, monkeypatch, capsys
):
    data, out = copied(photos, tmp_path / 'copy'), tmp_path / 'out.npz'
    ids = sorted(path.relative_to(data).as_posix() for path in data.rglob('*.png'))
    damaged = [ids[at] for at in (0, 15, 16, 40, 69)]
    for name in damaged:
        (data / name).write_bytes(b'')
    with pytest.raises(UserError, match=f'{damaged[0]} is not an image .* 4 more of 70 images'):
        call(workdir, data, out)
    with monkeypatch.context() as patch:
        real, seen = applying._applied, []

        def ends(part, forward, features):
            seen.append(part)
            if len(seen) > 2:
                raise KeyboardInterrupt
            return real(part, forward, features)

        patch.setattr(applying, '_applied', ends)
        with pytest.raises(KeyboardInterrupt):
            call(workdir, data, out, '--on-damaged=exclude')
    assert [len(part.rows) for part in seen] == [16] * 3
    found = call(workdir, data, out, '--on-damaged=exclude')
    assert found['ids'].tolist() == [id_ for id_ in ids if id_ not in damaged]
    with (tmp_path / 'out.npz.excluded.csv').open(newline='', encoding='utf-8') as file:
        assert [row['path'] for row in csv.DictReader(file)] == damaged
    for name in damaged:
        (data / name).unlink()
    same(call(workdir, data, tmp_path / 'whole.npz'), found)


def test_damaged_images_after_the_last_whole_part(workdir, photos, tmp_path, small_parts):
    data, out = copied(photos, tmp_path / 'copy'), tmp_path / 'out.npz'
    ids = sorted(path.relative_to(data).as_posix() for path in data.rglob('*.png'))
    for name in ids[64:]:  # four parts of 16 images are before them
        (data / name).write_bytes(b'')
    found = call(workdir, data, out, '--on-damaged=exclude')
    assert found['ids'].tolist() == ids[:64]
    with (tmp_path / 'out.npz.excluded.csv').open(newline='', encoding='utf-8') as file:
        assert [row['path'] for row in csv.DictReader(file)] == ids[64:]


def test_a_damaged_image_at_the_end_stops_it_and_what_was_done_is_kept(
    workdir, photos, tmp_path, small_parts, capsys
):
    data, out = copied(photos, tmp_path / 'copy'), tmp_path / 'out.npz'
    ids = sorted(path.relative_to(data).as_posix() for path in data.rglob('*.png'))
    good = (data / ids[60]).read_bytes()
    (data / ids[60]).write_bytes(b'')
    with pytest.raises(UserError, match=f'{ids[60]} is not an image .it is empty.'):
        call(workdir, data, out)
    assert not out.exists()
    (data / ids[60]).write_bytes(good)
    found = call(workdir, data, out)
    assert '48 of 70 images were done before' in capsys.readouterr().err
    same(found, call(workdir, data, tmp_path / 'whole.npz'))


def test_few_images_are_in_memory(workdir, photos, tmp_path, small_parts, monkeypatch):
    """Decoded are no more than a part and what the processors have in hand."""
    read, ahead, real, forward = [], [], decoding.one, applying._applied

    def one(root, name, config):
        read.append(name)
        return real(root, name, config)

    def applied(part, *arguments):
        ahead.append(len(read) - part.stop)
        return forward(part, *arguments)

    monkeypatch.setattr(decoding, 'one', one)
    monkeypatch.setattr(applying, '_applied', applied)
    monkeypatch.setattr(decoding.parallel, 'processors', lambda: 2)
    call(workdir, photos, tmp_path / 'out.npz')
    assert len(ahead) == 5
    assert max(ahead) <= 10


@pytest.mark.processes
def test_killed_and_started_again(workdir, tmp_path):
    data = tmp_path / 'photos'
    for number in range(5000):
        save(data / f'{number:04d}.png', number, size=14)
    out, parts = tmp_path / 'out.npz', tmp_path / 'out.npz.parts'
    command = [
        sys.executable, '-m', 'ltjax.predict', f'--workdir={workdir}', f'--data={data}', f'--out={out}'
    ]  # fmt: skip
    environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
    program = subprocess.Popen(
        command, cwd=tiny.ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    until = time.monotonic() + 200
    while not any(parts.glob('*.npz')):
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < until
        time.sleep(0.002)
    program.send_signal(signal.SIGKILL)
    program.communicate()
    assert not out.exists()
    done = subprocess.run(
        command, cwd=tiny.ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert 'of 5,000 images were done before' in done.stderr
    assert not parts.exists()
    with np.load(out) as found:
        assert len(found['ids']) == 5000
        expected = predict.Trained.load(workdir).predict(data)
        np.testing.assert_allclose(found['logits'], expected.logits, rtol=1e-4, atol=1e-5)


def test_images_of_an_npz_stay_on_disk_unless_they_are_compressed(tmp_path, monkeypatch, capsys):
    for channels in ((), (1,), (3,)):
        images = np.random.default_rng(0).integers(0, 256, (20, 6, 5, *channels), np.uint8)
        for save_as in (np.savez, np.savez_compressed):
            save_as(tmp_path / 'a.npz', labels=np.arange(20) % 2, images=images)
            whole, found = (npz.read(tmp_path / 'a.npz', mapped=each) for each in (False, True))
            assert isinstance(found.pixels, np.memmap) == (save_as is np.savez)
            assert found.labels == whole.labels
            rows = np.array([3, 4, 19])
            some = npz.some(found.pixels, rows)
            assert type(some) is np.ndarray
            np.testing.assert_array_equal(some, whole.pixels[rows])
    assert capsys.readouterr().err == ''
    monkeypatch.setattr(npz, '_LARGE', 10)
    npz.read(tmp_path / 'a.npz', mapped=True)
    assert 'a.npz is compressed, so that all of its images are read' in capsys.readouterr().err


def test_a_damaged_npz_is_found_before_the_first_part(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 5), np.uint8)
    np.savez(tmp_path / 'a.npz', images=images)
    data = bytearray((tmp_path / 'a.npz').read_bytes())
    data[data.find(images[10].tobytes())] ^= 1
    (tmp_path / 'a.npz').write_bytes(data)
    with pytest.raises(UserError, match='a.npz is not a readable npz of plain arrays .Bad CRC'):
        npz.read(tmp_path / 'a.npz', mapped=True)
    np.save(tmp_path / 'b.npy', np.array([{}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / 'b.npz', 'w') as archive:
        archive.write(tmp_path / 'b.npy', 'images.npy')
    with pytest.raises(UserError, match='b.npz is not a readable npz of plain arrays'):
        npz.read(tmp_path / 'b.npz', mapped=True)
