"""The embedded set, and the program that builds it."""

import gzip
import hashlib
import subprocess
import sys

import numpy as np
import pytest

import tiny
from data_prep import fashion_mnist_lt_mini as prep
from ltjax.errors import UserError

EMBEDDED = tiny.ROOT / 'ltjax' / 'data' / 'embedded' / 'fashion_mnist_lt_mini.npz'
SHA256 = '6a82a97a8bd624c9ac0807c6a543c4507a42ab828cfe1f2a6844fecc0308ed80'


@pytest.fixture(scope='module')
def embedded():
    with np.load(EMBEDDED, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def test_the_embedded_file_is_the_published_one():
    assert hashlib.sha256(EMBEDDED.read_bytes()).hexdigest() == SHA256


def test_the_embedded_counts(embedded):
    counts = {
        name: np.bincount(embedded['labels'][embedded['split'] == name], minlength=10).tolist()
        for name in ('train', 'val', 'test')
    }
    assert sorted(counts['train'], reverse=True) == [1000, 599, 359, 215, 129, 77, 46, 27, 16, 10]
    assert counts['val'] == [50] * 10
    assert counts['test'] == [200] * 10
    assert embedded['images'].shape == (4978, 28, 28)
    assert embedded['images'].dtype == np.uint8


def test_the_hard_classes_are_the_tail(embedded):
    train = embedded['labels'][embedded['split'] == 'train']
    order = np.argsort(-np.bincount(train), kind='stable')
    names = embedded['class_names'][order].tolist()
    assert names == [
        'Ankle boot', 'Bag', 'Trouser', 'Sneaker', 'Sandal',
        'Dress', 'T-shirt/top', 'Pullover', 'Coat', 'Shirt',
    ]  # fmt: skip


def test_no_image_is_in_two_splits(embedded):
    assert len(set(embedded['ids'].tolist())) == len(embedded['ids'])
    source = {'train': 'train-', 'val': 'train-', 'test': 'test-'}
    for name, split in zip(embedded['ids'], embedded['split'], strict=True):
        assert name.startswith(source[str(split)])
    images = {split: set() for split in source}
    for image, split in zip(embedded['images'], embedded['split'], strict=True):
        images[str(split)].add(image.tobytes())
    assert not images['train'] & images['val']


def idx(path, values):
    """Writes an idx file: two zero bytes, the type 8 (uint8), the dimensions, the shape, the data."""
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, '>i4').tobytes()
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A tiny Fashion-MNIST in the official format, whose every pixel tells the image's number."""
    folder = tmp_path / 'source'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, number in (('train', 40), ('t10k', 10)):
        labels = rng.permutation(np.repeat(np.arange(10), number // 10 * 2))
        images = np.arange(len(labels))[:, None, None] * np.ones((1, 28, 28))
        idx(folder / f'{name}-images-idx3-ubyte.gz', images)
        idx(folder / f'{name}-labels-idx1-ubyte.gz', labels)
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(prep, 'SOURCES', sums)
    for name, value in {
        'MAX_COUNT': 4,
        'RATIO': 4,
        'VAL_PER_CLASS': 2,
        'TEST_PER_CLASS': 1,
        'TUNING_PER_CLASS': 1,
    }.items():
        monkeypatch.setattr(prep, name, value)
    return folder


def test_idx_files_are_read(tmp_path):
    values = np.arange(24).reshape(2, 3, 4)
    idx(tmp_path / 'a.gz', values)
    assert prep.read_idx(tmp_path / 'a.gz').tolist() == values.tolist()


def test_the_set_is_built_from_the_official_files(source):
    prep.check_sources(source)
    built = prep.build(source)
    train = built['split'] == 'train'
    counts = np.bincount(built['labels'][train], minlength=10)
    assert counts[list(prep.HEAD_TO_TAIL)].tolist() == [4, 3, 2, 2, 2, 1, 1, 1, 1, 1]
    for name, number in (('val', 2), ('test', 1)):
        assert np.bincount(built['labels'][built['split'] == name]).tolist() == [number] * 10
    assert len(set(built['ids'].tolist())) == len(built['ids'])
    official = {
        'train': prep.read_idx(source / 'train-labels-idx1-ubyte.gz'),
        'test': prep.read_idx(source / 't10k-labels-idx1-ubyte.gz'),
    }
    for name, image, label in zip(built['ids'], built['images'], built['labels'], strict=True):
        file, number = str(name).split('-')
        assert (image == int(number)).all()
        assert official[file][int(number)] == label


def test_the_tuning_set_takes_nothing_from_the_official_test_images(source):
    built, tuning = prep.build(source), prep.build(source, tuning=True)
    for split in ('train', 'val'):
        for name in ('images', 'labels', 'ids'):
            kept = (values[name][values['split'] == split].tolist() for values in (built, tuning))
            assert next(kept) == next(kept)
    held_out = tuning['split'] == 'test'
    assert np.bincount(tuning['labels'][held_out]).tolist() == [1] * 10
    assert all(name.startswith('train-') for name in tuning['ids'])
    assert len(set(tuning['ids'].tolist())) == len(tuning['ids'])
    labels = prep.read_idx(source / 'train-labels-idx1-ubyte.gz')
    for name, label in zip(tuning['ids'], tuning['labels'], strict=True):
        assert labels[int(name.split('-')[1])] == label


def test_the_bytes_depend_on_the_arrays_alone(source, tmp_path):
    built = prep.build(source)
    for name in ('a', 'b'):
        prep.write_npz(tmp_path / name, built)
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()
    with np.load(tmp_path / 'a', allow_pickle=False) as archive:
        for name, values in built.items():
            assert archive[name].tolist() == values.tolist()


def test_wrong_sources_are_refused(source):
    path = source / 't10k-labels-idx1-ubyte.gz'
    path.write_bytes(path.read_bytes() + b'x')
    with pytest.raises(UserError, match='t10k-labels-idx1-ubyte.gz is not the official file'):
        prep.check_sources(source)
    path.unlink()
    with pytest.raises(UserError, match='t10k-labels-idx1-ubyte.gz is missing'):
        prep.check_sources(source)


def test_the_program_says_what_is_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'data_prep.fashion_mnist_lt_mini', f'--source={tmp_path}'],
        capture_output=True, text=True, cwd=tiny.ROOT, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith('error: ')
    assert 'is missing' in line
