"""CIFAR, Fashion-MNIST and MedMNIST in miniature: read, split, thinned; and what is refused."""

import gzip
import hashlib
from collections import Counter

import numpy as np
import pytest

import fabricated
from data_prep import cifar_lt, fashion_mnist_lt, medmnist
from data_prep import fashion_mnist_lt_mini as mini
from data_prep.tools import family, parts
from ltjax.data.prepared import records
from ltjax.data.prepared.writing import Item


def run(module, name, source, out, *flags):
    """Runs the program of one of several sets."""
    argv = [name, f'--source={source}', f'--out={out}', '--threads=1', *flags]
    family.run(module.SOURCES, module.__name__.rpartition('.')[2], module.__doc__, argv)
    return records.read(out)


def refused(capsys, module, name, source, out, *flags):
    """Returns the one line that the program says before it gives up with status 2."""
    with pytest.raises(SystemExit) as stopped:
        run(module, name, source, out, *flags)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not (out / 'manifest.json').exists()
    return line


def counts_of(found, protocol):
    """Images of every class in the parts of a protocol."""
    column = found.split(protocol)
    number = len(found.class_names)
    return {
        side: np.bincount(found.labels[column == side], minlength=number).tolist()
        for side in ('train', 'val', 'test')
    }


def planes(label, number):
    """The bytes of an image whose red, green and blue tell its label and number, and whose rows differ."""
    rows = np.arange(32, dtype=np.uint8)[:, None] * np.ones((1, 32), np.uint8)
    return np.concatenate([np.full(1024, label), np.full(1024, number % 256), rows.reshape(-1)])


def cifar(root, name='cifar10', per_class=20):
    train_files, test_file, names_file, label_bytes, _ = cifar_lt.LAYOUTS[name]
    folder = root / cifar_lt.FOLDERS[name][0]
    folder.mkdir(parents=True)
    number = 10 if name == 'cifar10' else 100
    rng = np.random.default_rng(0)
    for at, file in enumerate((*train_files, test_file)):
        labels = rng.permutation(np.repeat(np.arange(number), per_class))
        coarse = (labels // 5)[:, None] if label_bytes == 2 else np.empty((len(labels), 0))
        pixels = np.stack([planes(label, at) for label in labels])
        records = np.concatenate([coarse, labels[:, None], pixels], axis=1)
        (folder / file).write_bytes(records.astype(np.uint8).tobytes())
    lines = [f'class-{k}' for k in range(number)]
    (folder / names_file).write_text('\n'.join(lines) + '\n\n', 'ascii')
    return root


def test_cifar_10_is_read_and_thinned(tmp_path):
    found = run(cifar_lt, 'cifar10', cifar(tmp_path / 'in'), tmp_path / 'out', '--partial')
    assert found.manifest['name'] == 'cifar10'
    assert found.class_names == tuple(f'class-{k}' for k in range(10))
    assert found.ids[[0, 999, 1000]].tolist() == ['train-00000', 'train-00999', 'test-00000']
    images = found.stored()[:]
    assert images.shape == (1200, 32, 32, 3)
    assert images[:, 5, 9, 0].tolist() == found.labels.tolist()
    assert images[:, 9, 5, 1].tolist() == np.repeat(range(6), 200).tolist()
    assert (images[:, :, 3, 2] == np.arange(32)[None]).all()
    kinds = [f'{kind}_r{ratio}' for kind in ('exp', 'step') for ratio in (10, 50, 100)]
    names = {'official', *kinds}
    assert set(found.manifest['splits']) == names | {f'clean_{name}' for name in names}
    for ratio in (10, 50, 100):
        assert fabricated.has_what_its_benchmarks_take(found, f'cifar10_lt_r{ratio}')
    assert counts_of(found, 'official') == {'train': [100] * 10, 'val': [0] * 10, 'test': [20] * 10}
    assert counts_of(found, 'exp_r100')['train'] == [100, 59, 35, 21, 12, 7, 4, 2, 1, 1]
    assert counts_of(found, 'step_r10')['train'] == [100] * 5 + [10] * 5
    clean = counts_of(found, 'clean_exp_r10')
    assert (clean['train'][0], clean['train'][-1]) == (90, 9)
    assert (clean['val'], clean['test']) == ([10] * 10, [20] * 10)


def test_a_clean_construction_takes_no_image_of_validation(tmp_path):
    found = run(cifar_lt, 'cifar10', cifar(tmp_path / 'in'), tmp_path / 'out', '--partial')
    held = {id_ for id_, side in fabricated.sides(found, 'clean_official').items() if side == 'val'}
    for name in ('clean_exp_r50', 'clean_step_r50'):
        sides = fabricated.sides(found, name)
        assert {id_ for id_, side in sides.items() if side == 'val'} == held


def test_cifar_100_takes_the_fine_labels(tmp_path):
    source = cifar(tmp_path / 'in', 'cifar100', per_class=2)
    found = run(cifar_lt, 'cifar100', source, tmp_path / 'out', '--partial')
    assert len(found.class_names) == 100
    assert fabricated.has_what_its_benchmarks_take(found, 'cifar100_lt_r100')
    assert found.stored()[:][:, 0, 0, 0].tolist() == found.labels.tolist()
    assert counts_of(found, 'official')['train'] == [2] * 100


def test_the_selection_is_that_of_ldam():
    # Even and odd rows of 16, shuffled by numpy.random.shuffle after numpy.random.seed(0).
    rows = cifar_lt.ldam_selection(np.arange(16) % 2, [5, 3], 0)
    assert rows.tolist() == sorted([12, 4, 2, 14, 6, 3, 13, 7])


def test_wrong_cifar_files_are_refused(tmp_path, capsys):
    root, out = cifar(tmp_path / 'in'), tmp_path / 'out'
    folder = root / 'cifar-10-batches-bin'
    line = refused(capsys, cifar_lt, 'cifar10', root, out)
    assert 'class-0 100, not 5000' in line
    whole = (folder / 'data_batch_3.bin').read_bytes()
    (folder / 'data_batch_3.bin').write_bytes(whole[:-1])
    assert 'data_batch_3.bin has 614599 bytes' in refused(capsys, cifar_lt, 'cifar10', root, out)
    (folder / 'data_batch_3.bin').write_bytes(b'\x0a' + whole[1:])
    assert 'has label 10' in refused(capsys, cifar_lt, 'cifar10', root, out)
    (folder / 'data_batch_3.bin').unlink()
    line = refused(capsys, cifar_lt, 'cifar10', root, out)
    assert 'data_batch_3.bin. Get the binary version' in line


def test_the_pickles_of_cifar_are_refused(tmp_path, capsys):
    (tmp_path / 'cifar-100-python').mkdir()
    line = refused(capsys, cifar_lt, 'cifar100', tmp_path, tmp_path / 'out')
    assert 'Python version, which is pickles. Get the binary version' in line


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """The four files, of which every image shows its row and label."""
    folder = tmp_path / 'in'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for start, per_class in (('train', 50), ('t10k', 5)):
        labels = rng.permutation(np.repeat(np.arange(10), per_class)).astype(np.uint8)
        images = np.zeros((len(labels), 28, 28), np.uint8)
        images[:, 0, 1], images[:, 1, 0] = np.arange(len(labels)) % 256, labels
        for kind, values in (('images-idx3', images), ('labels-idx1', labels)):
            header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, '>i4').tobytes()
            path = folder / f'{start}-{kind}-ubyte.gz'
            path.write_bytes(gzip.compress(header + values.tobytes()))
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(mini, 'SOURCES', sums)
    return folder


def fashion_run(source, out):
    argv = [f'--source={source}', f'--out={out}', '--threads=1']
    fashion_mnist_lt.tool.run(fashion_mnist_lt.SOURCE, fashion_mnist_lt.__doc__, argv)
    return records.read(out)


def test_fashion_mnist_is_read_and_thinned(tmp_path, fashion):
    found = fashion_run(fashion, tmp_path / 'out')
    images = found.stored()[:]
    assert images.shape == (550, 28, 28, 1)
    assert images[:, 1, 0, 0].tolist() == found.labels.tolist()
    assert images[:, 0, 1, 0].tolist() == [*(np.arange(500) % 256), *range(50)]
    falling = [50, 29, 17, 10, 6, 3, 2, 1, 0, 0]
    assert counts_of(found, 'exp_r100') == {'train': falling, 'val': [0] * 10, 'test': [5] * 10}
    hard = counts_of(found, 'hard_tail_r100')['train']
    assert [hard[k] for k in mini.HEAD_TO_TAIL] == falling
    clean = counts_of(found, 'clean_hard_tail_r100')
    assert (clean['train'][9], clean['val'], clean['test']) == (45, [5] * 10, [5] * 10)


def test_the_full_fashion_mnist_lt_has_its_published_sizes():
    want = [6000, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60]
    assert fashion_mnist_lt.label_order(6000) == want
    assert sorted(fashion_mnist_lt.hard_tail(6000), reverse=True) == want


def test_other_fashion_files_are_refused(tmp_path, fashion, capsys):
    path = fashion / 'train-labels-idx1-ubyte.gz'
    path.write_bytes(path.read_bytes() + b'x')
    with pytest.raises(SystemExit):
        fashion_run(fashion, tmp_path / 'out')
    assert 'train-labels-idx1-ubyte.gz is not the official file' in capsys.readouterr().err


def medmnist_file(path, member, side=28, sizes=(9, 3, 3), **changes):
    """An npz as MedMNIST has them: labels N x 1, grey images without an axis of channels."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in zip(medmnist.PARTS, sizes, strict=True):
        shape = (size, side, side, 3)[: 3 + (medmnist.MEMBERS[member].channels == 3)]
        arrays[f'{part}_images'] = rng.integers(0, 256, shape, np.uint8)
        arrays[f'{part}_labels'] = (np.arange(size) % 2)[:, None].astype(np.uint8)
    np.savez_compressed(path, **arrays | changes)
    return arrays


@pytest.mark.parametrize('name', list(medmnist.MEMBERS))
def test_every_member_of_medmnist_is_read(tmp_path, name):
    arrays = medmnist_file(tmp_path / f'{name}.npz', name)
    found = run(medmnist, name, tmp_path, tmp_path / 'out', '--partial')
    assert found.manifest['name'] == name
    assert len(found.class_names) == len(medmnist.MEMBERS[name].class_names)
    want = np.concatenate([arrays[f'{part}_images'] for part in medmnist.PARTS])
    assert np.array_equal(found.stored()[:], want if want.ndim == 4 else want[..., None])
    assert found.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0]
    assert found.split('official').tolist() == ['train'] * 9 + ['val'] * 3 + ['test'] * 3


def test_the_28_pixel_file_is_checked_by_its_md5_and_sizes(tmp_path, capsys, monkeypatch):
    path = tmp_path / 'bloodmnist.npz'
    medmnist_file(path, 'bloodmnist')
    line = refused(capsys, medmnist, 'bloodmnist', tmp_path, tmp_path / 'out')
    assert 'bloodmnist.npz has the md5' in line
    assert 'not 7053d0359d879ad8a5505303e11de1dc' in line
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    member = medmnist.MEMBERS['bloodmnist']._replace(md5=digest)
    monkeypatch.setitem(medmnist.MEMBERS, 'bloodmnist', member)
    line = refused(capsys, medmnist, 'bloodmnist', tmp_path, tmp_path / 'out')
    assert '9 images of train, not 11959' in line
    monkeypatch.setitem(medmnist.MEMBERS, 'bloodmnist', member._replace(sizes=(9, 3, 3)))
    assert len(run(medmnist, 'bloodmnist', tmp_path, tmp_path / 'out').ids) == 15


def test_larger_images_have_files_of_their_own(tmp_path, capsys):
    medmnist_file(tmp_path / 'octmnist_64.npz', 'octmnist', side=64)
    flags = ('--size=64', '--partial')
    found = run(medmnist, 'octmnist', tmp_path, tmp_path / 'out', *flags)
    assert found.stored()[:].shape == (15, 64, 64, 1)
    assert 'has no octmnist.npz' in refused(capsys, medmnist, 'octmnist', tmp_path, tmp_path / 'b')
    line = refused(capsys, medmnist, 'octmnist', tmp_path, tmp_path / 'b', '--size=32')
    assert '--size 32: MedMNIST comes in 28, 64, 128, 224 pixels' in line


def test_dermamnist_says_that_it_leaks(tmp_path, capsys):
    medmnist_file(tmp_path / 'dermamnist.npz', 'dermamnist')
    found = run(medmnist, 'dermamnist', tmp_path, tmp_path / 'out', '--partial')
    assert 'images of one lesion in train, val and test' in capsys.readouterr().out
    assert found.manifest['licence'] == 'CC BY-NC 4.0'


@pytest.mark.parametrize(
    ('name', 'reason'), [('chestmnist', '14 labels an image'), ('organmnist3d', 'volumes')]
)
def test_members_that_are_no_classification_of_images_are_refused(tmp_path, capsys, name, reason):
    line = refused(capsys, medmnist, name, tmp_path, tmp_path / 'out')
    assert f'{name} has {reason}' in line


@pytest.mark.parametrize(
    'changes',
    [
        {'val_labels': np.zeros((3, 14), np.uint8)},
        {'val_labels': np.zeros((2, 1), np.uint8)},
        {'val_images': np.zeros((3, 28, 28), np.uint8)},
        {'val_images': np.zeros((3, 28, 28, 3), np.float32)},
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, capsys, changes):
    medmnist_file(tmp_path / 'pathmnist.npz', 'pathmnist', **changes)
    line = refused(capsys, medmnist, 'pathmnist', tmp_path, tmp_path / 'out', '--partial')
    assert 'pathmnist.npz: val has images' in line


def test_what_is_no_medmnist_file_is_refused(tmp_path, capsys):
    (tmp_path / 'pathmnist.npz').write_bytes(b'nothing')
    line = refused(capsys, medmnist, 'pathmnist', tmp_path, tmp_path / 'out', '--partial')
    assert 'pathmnist.npz is no npz of MedMNIST' in line


def test_a_family_names_its_members(capsys):
    with pytest.raises(SystemExit):
        family.run(medmnist.SOURCES, 'medmnist', 'Sets.', ['bloodmist'])
    assert 'bloodmnist' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        family.run(medmnist.SOURCES, 'medmnist', 'Sets.', ['bloodmnist', '--help'])
    assert 'python -m data_prep.medmnist bloodmnist [-h]' in capsys.readouterr().out


def test_official_parts_are_completed():
    items = [Item(f'{i}', i % 2, lambda: None) for i in range(60)]

    def sizes(given):
        part = {item.id: given[i // 20] for i, item in enumerate(items)}
        made = parts.official(items, part, 0)
        return {name: dict(Counter(split.values())) for name, split in made.items()}

    thirds = {'train': 20, 'val': 20, 'test': 20}
    assert sizes(('train', 'val', 'test')) == {'official': thirds}
    clean = {'train': 36, 'val': 4, 'test': 20}
    for other in ('val', 'test'):
        found = sizes(('train', 'train', other))
        assert found == {'official': {'train': 40, other: 20}, 'clean_official': clean}
    assert sizes(('train',) * 3) == {'7_1_2': {'train': 42, 'val': 6, 'test': 12}}
