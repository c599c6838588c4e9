"""Decoded images that are kept between runs: the same data as without, however the files and the cache were changed."""

import dataclasses
import errno
import os
import pathlib
import shutil
import threading
import time

import numpy as np
import pytest

from ltjax.data import cache, catalog, datasets, identity
from ltjax.data.prepared import records, shards, writing
from ltjax.data.reading import decoding
from ltjax.data.settings import Data
from ltjax.errors import UserError
from own_data.sets import folder, save

COUNTS = {'mel': 8, 'nv': 12}


@pytest.fixture(autouse=True)
def for_few(monkeypatch):
    monkeypatch.setattr(cache, 'FEWEST', 2)
    monkeypatch.setattr(writing, 'IMAGES_PER_SHARD', 7)


@pytest.fixture
def photos(tmp_path):
    return folder(tmp_path / 'photos', COUNTS)


@pytest.fixture
def decoded(monkeypatch):
    """The names of files that were decoded."""
    found, real = [], decoding.one

    def one(root, name, config):
        found.append(name)
        return real(root, name, config)

    monkeypatch.setattr(decoding, 'one', one)
    return found


def config(photos, **changes):
    made = catalog.get('folder')
    made.path, made.cache = str(photos), str(photos.parent / 'kept')
    made.update_from_flattened_dict(changes)
    return Data.of(made)


def the_same(photos, **changes):
    """Loads a set with and without the cache, compares them, and returns the former."""
    kept = datasets.load(config(photos, **changes))
    without = datasets.load(config(photos, **changes | {'cache': 'off'}))
    assert isinstance(without.images, np.ndarray)
    np.testing.assert_array_equal(kept.images[:], without.images)
    assert kept.images[:].dtype == np.uint8
    for part in kept.parts:
        np.testing.assert_array_equal(kept.images_of(part)[:], without.images_of(part))
    for a, b in zip(
        dataclasses.astuple(identity.Identity.of(kept, '')),
        dataclasses.astuple(identity.Identity.of(without, '')),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert kept.excluded == without.excluded
    return kept


def versions(photos):
    return sorted((photos.parent / 'kept').glob('*/*/'))


def test_the_next_run_decodes_nothing(photos, decoded, capsys):
    kept = the_same(photos)
    said = capsys.readouterr().err
    (version,) = versions(photos)
    assert f'decoded images are kept in {version} for the next run' in said
    assert f'{version}: 20 images, ' in said
    decoded.clear()
    again = datasets.load(config(photos))
    assert decoded == []
    assert capsys.readouterr().err == ''
    np.testing.assert_array_equal(again.images, kept.images)
    assert isinstance(again.images, np.ndarray)


def test_large_sets_stay_on_disk(photos, monkeypatch):
    monkeypatch.setattr(cache, 'IN_MEMORY_BYTES', 0)
    assert isinstance(the_same(photos).images, records.StoredImages)


@pytest.mark.parametrize(
    'changes', [{'image_size': 5}, {'channels': 1}, {'image_size': 30, 'interpolation': 'bicubic'}]
)
def test_settings_have_caches_of_their_own(photos, changes, decoded):
    the_same(photos)
    decoded.clear()
    the_same(photos, **changes)
    assert len(decoded) == 2 * 20
    decoded.clear()
    datasets.load(config(photos))
    assert decoded == []


def test_only_what_changed_is_decoded(photos, decoded):
    the_same(photos)
    (before,) = versions(photos)
    save(photos / 'mel' / '3.png', 77)
    save(photos / 'nv' / 'new.png', 78)
    (photos / 'nv' / '4.png').unlink()
    decoded.clear()
    datasets.load(config(photos))
    assert sorted(decoded) == ['mel/3.png', 'nv/new.png']
    (after,) = versions(photos)
    assert after != before
    the_same(photos)


def test_a_file_of_another_time_and_the_same_bytes_is_the_same_data(photos):
    before = identity.Identity.of(the_same(photos), '')
    os.utime(photos / 'mel' / '0.png')
    after = identity.Identity.of(the_same(photos), '')
    assert after.digests() == before.digests()


def test_what_cannot_be_read_is_told_each_time_and_decoded_when_mended(photos, decoded):
    good = (photos / 'mel' / '3.png').read_bytes()
    (photos / 'mel' / '3.png').write_bytes(b'')
    (photos / 'nv' / '5.png').write_bytes(b'no image')
    with pytest.raises(UserError) as error:
        datasets.load(config(photos, cache='off'))
    for _ in range(2):
        with pytest.raises(UserError) as other:
            datasets.load(config(photos))
        assert str(other.value) == str(error.value)
    assert 'mel/3.png is not an image (it is empty)' in str(error.value)
    assert len(the_same(photos, on_damaged='exclude').ids) == 18
    (photos / 'mel' / '3.png').write_bytes(good)
    decoded.clear()
    found = datasets.load(config(photos, on_damaged='exclude'))
    assert sorted(decoded) == ['mel/3.png', 'nv/5.png']
    assert [each.path for each in found.excluded] == ['nv/5.png']


def test_mixed_sizes_are_told_as_without_it(photos):
    save(photos / 'nv' / '7.png', 1, size=9)
    messages = []
    for changes in ({}, {'cache': 'off'}):
        with pytest.raises(UserError) as error:
            datasets.load(config(photos, **changes))
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    the_same(photos, image_size=8)


@pytest.mark.parametrize('value', ['', 'off'])
def test_it_can_be_switched_off(photos, value, capsys):
    datasets.load(config(photos, cache=value))
    assert versions(photos) == []
    assert capsys.readouterr().err == ''


def test_it_is_not_kept_between_the_images(photos):
    with pytest.raises(UserError, match='lies in the data'):
        datasets.load(config(photos, cache=str(photos / 'kept')))
    assert sorted(path.name for path in photos.iterdir()) == ['mel', 'nv']


def test_where_it_is_by_default(monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', '/caches')
    assert cache.folder(Data()) == pathlib.Path('/caches/ltjax/data')
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', '/somebody')
    assert cache.folder(Data()) == pathlib.Path('/somebody/.cache/ltjax/data')


def damaged(path, how):
    data = bytearray(path.read_bytes())
    if how == 'gone':
        path.unlink()
    elif how == 'cut':
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize('how', ['gone', 'cut', 'flipped'])
@pytest.mark.parametrize(
    'name',
    ['images-00001.array_record', 'images-00001.npz', 'manifest.json', 'records.csv', 'whole'],
)
def test_a_damaged_cache_is_mended(photos, how, name, decoded):
    the_same(photos)
    (version,) = versions(photos)
    damaged(version / name, how)
    the_same(photos)
    the_same(photos)
    decoded.clear()
    datasets.load(config(photos))
    assert decoded == []


def test_damage_that_is_found_in_training_is_mended_then(photos, monkeypatch, capsys):
    monkeypatch.setattr(cache, 'IN_MEMORY_BYTES', 0)
    kept = the_same(photos)
    (version,) = versions(photos)
    expected = kept.images[:]
    path = version / 'images-00001.array_record'
    data = bytearray(path.read_bytes())
    at = data.find(expected[10].tobytes())
    data[at + 5] ^= 1
    path.write_bytes(data)
    capsys.readouterr()
    np.testing.assert_array_equal(datasets.load(config(photos)).images[:], expected)
    assert f'{version} is damaged: what cannot be read is decoded anew' in capsys.readouterr().err
    the_same(photos)
    records.read(versions(photos)[0]).verify()


def test_it_goes_on_where_it_was_ended(photos, decoded, monkeypatch):
    real = decoding.one

    def ends(root, name, config):
        if name == 'nv/9.png':
            raise KeyboardInterrupt
        return real(root, name, config)

    monkeypatch.setattr(decoding, 'one', ends)
    with pytest.raises(KeyboardInterrupt):
        datasets.load(config(photos))
    monkeypatch.setattr(decoding, 'one', real)
    decoded.clear()
    datasets.load(config(photos))
    assert 0 < len(decoded) < 20
    the_same(photos)


def test_a_version_of_others_files_is_taken_over_though_it_was_not_whole(
    photos, decoded, monkeypatch
):
    the_same(photos)
    (version,) = versions(photos)
    (version / 'manifest.json').rename(version / 'unfinished.json')
    save(photos / 'mel' / '3.png', 77)
    decoded.clear()
    datasets.load(config(photos))
    assert decoded == ['mel/3.png']
    the_same(photos)


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EIO])
def test_a_full_disk_is_one_line(photos, code, monkeypatch, capsys):
    def full(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(shards.originals, 'write', full)
    the_same(photos)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if 'nothing is kept' in line]
    assert os.strerror(code) in line
    assert '--config.data.cache=FOLDER keeps them elsewhere' in line


def test_too_little_space_is_told_before(photos, monkeypatch, capsys, decoded):
    usage = shutil._ntuple_diskusage(10, 10, 0)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
    datasets.load(config(photos, image_size=5))
    assert 'they take 0.27 GB, and 0 GB are free' in capsys.readouterr().err
    assert len(decoded) == 20


def test_a_cache_that_cannot_be_written(photos, capsys):
    (photos.parent / 'kept').write_text('a file in its place', 'utf-8')
    the_same(photos)
    assert 'nothing is kept in' in capsys.readouterr().err


def test_two_runs_at_once_decode_once(photos, decoded, capsys):
    found, real = [], writing.write

    def slow(*arguments, **options):
        time.sleep(0.5)
        return real(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, 'write', slow)
        runs = [
            threading.Thread(target=lambda: found.append(datasets.load(config(photos))))
            for _ in range(2)
        ]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
    assert len(decoded) == 20
    assert 'waiting for it' in capsys.readouterr().err
    np.testing.assert_array_equal(found[0].images, found[1].images)


def test_a_run_reads_on_what_a_later_one_removes(photos, monkeypatch):
    monkeypatch.setattr(cache, 'IN_MEMORY_BYTES', 0)
    before = datasets.load(config(photos))
    expected = datasets.load(config(photos, cache='off')).images
    save(photos / 'mel' / '3.png', 77)
    datasets.load(config(photos))
    assert len(versions(photos)) == 1
    np.testing.assert_array_equal(before.images[:], expected)
