"""Lists of image files: one array of those that can be read, and what becomes of the others."""

import contextlib
import csv
import time

import numpy as np
import pytest
from PIL import Image

from ltjax.data import catalog, parallel
from ltjax.data.reading import decoding
from ltjax.data.settings import ON_PROBLEM, Data
from ltjax.errors import UserError

GREY = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)


def write(path, pixels):
    Image.fromarray(pixels).save(path)
    return path.name


def load(root, names, **changes):
    config = catalog.get('folder')
    config.update(changes)
    return decoding.load(root, names, Data.of(config))


def test_many_files_become_one_array(tmp_path):
    names = [write(tmp_path / f'{i}.png', np.full((10 + i, 12, 3), i, np.uint8)) for i in range(3)]
    loaded = load(tmp_path, names, image_size=6)
    images, rows, excluded = loaded.images, loaded.rows, loaded.excluded
    assert images.shape == (3, 6, 6, 3)
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert rows.tolist() == [0, 1, 2]
    assert excluded == ()


def test_mixed_sizes_and_channels_are_refused_with_the_remedy(tmp_path):
    a = write(tmp_path / 'a.png', COLOUR)
    b = write(tmp_path / 'b.png', COLOUR[:10])
    g = write(tmp_path / 'g.png', GREY)
    with pytest.raises(
        UserError, match=r'b\.png is 20x10 and .*a\.png is 20x12: .*image_size'
    ) as e:
        load(tmp_path, [a, b])
    with pytest.raises(UserError, match=r'g\.png has 1 channels and .*a\.png has 3: .*channels=3'):
        load(tmp_path, [a, g], on_damaged='exclude')
    assert '\n' not in str(e.value)
    assert load(tmp_path, [a, g], channels=3).images.shape == (2, 12, 20, 3)
    assert load(tmp_path, [a, g], channels=1).images.shape == (2, 12, 20, 1)


def test_what_cannot_be_read_stops_with_its_number_or_is_left_out(tmp_path, caplog):
    names = [write(tmp_path / f'{i}.png', COLOUR // (i + 1)) for i in range(5)]
    for name in ('0.png', '3.png'):
        (tmp_path / name).write_bytes(b'')
    with pytest.raises(UserError) as error:
        load(tmp_path, names)
    assert str(error.value) == (
        f'{tmp_path}/0.png is not an image (it is empty): remove it or convert it to PNG or JPEG. 1 more of 5 '
        'images cannot be read. --config.data.on_damaged=exclude leaves them out.'
    )
    found = load(tmp_path, names, on_damaged='exclude')
    assert found.rows.tolist() == [1, 2, 4]
    assert found.images[1].tolist() == (COLOUR // 3).tolist()
    assert [excluded.path for excluded in found.excluded] == ['0.png', '3.png']
    assert '2 of 5 images of' in caplog.text
    decoding.write(tmp_path / 'excluded.csv', found.excluded)
    with (tmp_path / 'excluded.csv').open(newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert [row['path'] for row in rows] == ['0.png', '3.png']
    assert 'is not an image (it is empty)' in rows[1]['reason']


def test_nothing_readable_is_refused_whatever_is_configured(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'')
    for on_damaged in ON_PROBLEM:
        with pytest.raises(
            UserError, match='none of the 1 images of .* can be read. The first: .*a.png'
        ):
            load(tmp_path, ['a.png'], on_damaged=on_damaged)


def test_the_settings_are_checked(tmp_path):
    name = write(tmp_path / 'a.png', COLOUR)
    assert len(load(tmp_path, [name], max_pixels=240).images) == 1
    with pytest.raises(UserError, match='more than 239 pixels: .*--config.data.max_pixels'):
        load(tmp_path, [name], max_pixels=239)
    with pytest.raises(UserError, match='max_pixels is -1'):
        load(tmp_path, [name], max_pixels=-1)
    with pytest.raises(UserError, match="unknown data.on_damaged 'skip': did you mean stop"):
        load(tmp_path, [name], on_damaged='skip')


def test_the_order_is_that_of_the_names_whatever_takes_longest(tmp_path, monkeypatch):
    names = [write(tmp_path / f'{i:02d}.png', np.full((8, 8, 3), i, np.uint8)) for i in range(40)]
    real = decoding.one

    def slow(root, name, config):
        time.sleep(0.02 if int(name[:2]) % 5 == 0 else 0)
        return real(root, name, config)

    monkeypatch.setattr(decoding, 'one', slow)
    loaded = load(tmp_path, names)
    assert loaded.images[:, 0, 0, 0].tolist() == list(range(40))
    assert loaded.rows.tolist() == list(range(40))


def test_progress_is_told_with_the_time_that_is_left(tmp_path, monkeypatch, capsys):
    names = [write(tmp_path / f'{i}.png', COLOUR) for i in range(4)]
    load(tmp_path, names)
    assert capsys.readouterr().err == ''
    clock = iter(range(0, 400, 4))
    monkeypatch.setattr(parallel.time, 'monotonic', lambda: next(clock))
    progress = parallel.Progress('decoding photos', 4_000)
    for number in (10, 390, 600):
        progress.advance(number)
    progress.advance(1_000, ready=True)
    assert capsys.readouterr().err.splitlines() == [
        'decoding photos: 400 of 4,000 images, 50 a second, 72 s left',
        'decoding photos: 2,000 of 4,000 images, 62.5 a second, 32 s left',
    ]


def test_what_is_left_early_leaves_no_thread_at_work(tmp_path):
    done = []

    def slow(number):
        time.sleep(0.01)
        done.append(number)
        return number

    with contextlib.closing(parallel.in_order(slow, range(1000), threads=2)) as found:
        assert [next(found) for _ in range(3)] == [0, 1, 2]
    finished = len(done)
    assert finished < 20
    time.sleep(0.05)
    assert len(done) == finished
