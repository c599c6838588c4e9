"""Data sets from an npz, folders, a CSV and the embedded file; and one line for everything that is wrong with them."""

import csv

import numpy as np
import pytest
from PIL import Image

import tiny
from ltjax.data import catalog, datasets, reading
from ltjax.data.settings import Data
from ltjax.errors import UserError


def config(path='', kind='npz', **changes):
    made = catalog.get(kind)
    made.path = str(path)
    made.update_from_flattened_dict(changes)
    return made


def load(path, kind='npz', **changes):
    return datasets.load(config(path, kind, **changes))


def npz(tmp_path, **changes):
    return tiny.npz(tmp_path / 'set.npz', **changes)


def refused(path, *args, **changes):
    """Returns the one line with which the set is refused."""
    with pytest.raises(UserError) as error:
        load(path, *args, **changes)
    assert '\n' not in str(error.value)
    return str(error.value)


# npz


def test_an_npz_is_taken_as_it_is(tmp_path):
    names = np.array(['a', 'b', 'c'])
    ids = np.char.mod('image %d', np.arange(80))
    data = load(npz(tmp_path, class_names=names, ids=ids))
    expected = tiny.arrays()
    assert data.images.tolist() == expected['images'].tolist()
    assert data.labels.tolist() == expected['labels'].tolist()
    assert data.labels.dtype == np.int32
    assert data.ids.tolist() == ids.tolist()
    assert data.class_names == ('a', 'b', 'c')
    assert data.train_counts.tolist() == list(tiny.COUNTS)
    for name, part in data.parts.items():
        assert set(expected['split'][part]) == {name}


def test_what_an_npz_leaves_out_is_made_up(tmp_path):
    images = tiny.arrays()['images']
    data = load(npz(tmp_path, images=images[..., 0], split=None))
    assert data.images.shape == images.shape
    assert data.class_names == ('class 0', 'class 1', 'class 2')
    assert data.ids[:2].tolist() == ['000000', '000001']
    assert {name: len(part) for name, part in data.parts.items()} == {
        'train': 56,
        'val': 8,
        'test': 16,
    }


def test_labels_in_a_column_are_accepted(tmp_path):
    labels = tiny.arrays()['labels']
    assert load(npz(tmp_path, labels=labels[:, None])).labels.tolist() == labels.tolist()


@pytest.mark.parametrize('size', [8, 20])
@pytest.mark.parametrize('channels', [1, 3])
def test_images_are_brought_to_size_and_channels(tmp_path, size, channels):
    for stored in (1, 3):
        path = npz(tmp_path, **tiny.arrays(channels=stored))
        data = load(path, image_size=size, channels=channels)
        assert data.images.shape == (80, size, size, channels)
        assert data.images.dtype == np.uint8
        before = tiny.arrays(channels=stored)['images'].mean((1, 2, 3))
        assert np.corrcoef(data.images.mean((1, 2, 3)), before)[0, 1] > 0.98


def test_groups_of_an_npz_stay_together(tmp_path):
    groups = np.arange(80) // 2
    data = load(npz(tmp_path, split=None, group=groups))
    sides = [set(groups[part].tolist()) for part in data.parts.values()]
    assert sum(map(len, sides)) == 40


CASES = {
    'images missing': (dict(images=None), 'has no array `images` (it has labels, site, split)'),
    'images float': (dict(images=np.zeros((80, 4, 4), np.float32)), '`images` of'),
    'images of four channels': (dict(images=np.zeros((80, 4, 4, 4), np.uint8)), '(80, 4, 4, 4)'),
    'images flat': (dict(images=np.zeros((80, 16), np.uint8)), '(80, 16)'),
    'pickled objects': (dict(labels=np.array([{}] * 80)), 'is not a readable npz of plain arrays'),
    'labels missing': (dict(labels=None), 'has no labels'),
    'labels float': (dict(labels=np.zeros(80)), 'are float64: they should be integers'),
    'labels as text': (dict(labels=np.array(['a'] * 80)), 'they should be integers'),
    'labels negative': (dict(labels=tiny.arrays()['labels'] - 2), 'label -2 of'),
    'labels of two columns': (dict(labels=np.zeros((80, 2), int)), 'has 2 labels an image'),
    'labels too few': (dict(labels=np.zeros(7, int)), 'has 80 images but 7 labels'),
    'labels above the names': (dict(class_names=np.array(['a', 'b'])), 'label 2 of'),
    'one class': (dict(labels=np.zeros(80, int)), 'has one class'),
    'two classes of one name': (dict(class_names=np.array(['a', 'b', 'a'])), "two classes 'a'"),
    'a name too many': (dict(class_names=np.array(list('abcd'))), "class 'd' of"),
    'ids doubled': (dict(ids=np.array(['x', 'y'] * 40)), "has the id 'x' more than once"),
    'ids too few': (dict(ids=np.array(['x'])), 'has 80 images but 1 ids'),
    'split unknown': (dict(split=np.array(['train'] * 79 + ['spare'])), "unknown split 'spare'"),
    'no test': (dict(split=np.array(['train', 'val'] * 40)), 'the test split of'),
    'no training': (dict(split=np.array(['val', 'test'] * 40)), 'the train split of'),
    'no image': (dict(images=np.zeros((0, 4, 4), np.uint8), labels=None, split=None), 'no images'),
    'groups too few': (dict(split=None, group=np.zeros(80, int)), '1 groups cannot be split'),
}  # fmt: skip


@pytest.mark.parametrize('case', CASES)
def test_a_wrong_npz_is_refused(tmp_path, case):
    changes, message = CASES[case]
    assert message in refused(npz(tmp_path, **changes))


def test_a_class_without_training_image_is_named(tmp_path):
    path = npz(
        tmp_path, **tiny.arrays((8, 0, 4)), class_names=np.array(['naevus', 'melanoma', 'other'])
    )
    assert "class 'melanoma' of" in refused(path)
    assert load(npz(tmp_path, **tiny.arrays((8, 1, 4)))).train_counts.tolist() == [8, 1, 4]


def test_what_is_no_npz_is_refused(tmp_path):
    whole = npz(tmp_path).read_bytes()
    for name, data in {
        'text': b'hello',
        'empty': b'',
        'cut': whole[: len(whole) // 2],
        'flipped': whole[:3000] + bytes(255 - b for b in whole[3000:3400]) + whole[3400:],
    }.items():
        (tmp_path / name).write_bytes(data)
        assert f'{name} is not a readable npz' in refused(tmp_path / name)
    np.save(tmp_path / 'one.npy', np.zeros(3))
    assert 'one.npy is not a readable npz' in refused(tmp_path / 'one.npy')
    assert 'is no npz but a folder: name the data folder' in refused(tmp_path)


def test_a_path_is_needed_and_must_exist(tmp_path):
    assert "data set 'npz' needs its files: set --config.data.path" in refused('')
    assert 'absent.npz does not exist' in refused(tmp_path / 'absent.npz')
    assert "unknown data.format 'npy': did you mean npz" in refused(tmp_path, format='npy')


def test_the_long_tail_is_cut_in_the_order_of_the_classes_sizes(tmp_path):
    path = npz(tmp_path, **tiny.arrays((20, 40, 30)))
    data = load(path, **{'long_tail.max_count': 16, 'long_tail.ratio': 4})
    assert data.train_counts.tolist() == [4, 16, 8]
    assert len(data.parts['val']) == len(data.parts['test']) == 12
    again = load(path, **{'long_tail.max_count': 16, 'long_tail.ratio': 4})
    assert data.parts['train'].tolist() == again.parts['train'].tolist()
    other = load(path, **{'long_tail.max_count': 16, 'long_tail.ratio': 4, 'split.seed': 1})
    assert data.parts['train'].tolist() != other.parts['train'].tolist()
    assert 'class 0 has 20 images, not 25' in refused(
        path, **{'long_tail.max_count': 50, 'long_tail.ratio': 2}
    )
    assert 'data.long_tail.max_count' in refused(path, **{'long_tail.ratio': 2})


# folders


def picture(path, value, size=(12, 12, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)
    return path


def class_folders(root, number=10):
    for k, name in enumerate(['b', 'a']):
        for i in range(number):
            picture(root / name / f'{i}.png', 100 * k + i)
    return root


def test_class_folders_name_the_classes(tmp_path):
    data = load(class_folders(tmp_path), 'folder')
    assert data.class_names == ('a', 'b')
    for image, label, name in zip(data.images, data.labels, data.ids, strict=True):
        assert name.startswith(('a/', 'b/')[label])
        assert image[0, 0, 0] == (100, 0)[label] + int(name[2:-4])
    assert data.train_counts.tolist() == [7, 7]


def test_folders_may_bring_their_split(tmp_path):
    for name in ('train', 'val', 'test'):
        class_folders(tmp_path / name, 3)
    data = load(tmp_path, 'folder')
    assert data.class_names == ('a', 'b')
    for name, part in data.parts.items():
        assert all(image.startswith(f'{name}/') for image in data.ids[part])
        assert len(part) == 6


def test_a_folder_without_class_folders_has_no_labels(tmp_path):
    picture(tmp_path / 'one.png', 1)
    raw = reading.read(Data.of(config(tmp_path, 'folder')))
    assert raw.labels is None
    assert raw.ids.tolist() == ['one.png']
    assert 'has no labels: training needs them' in refused(tmp_path, 'folder')


def test_wrong_folders_are_refused(tmp_path):
    assert 'holds no images' in refused(tmp_path, 'folder')
    class_folders(tmp_path)
    (tmp_path / 'README.txt').write_text('of no matter', 'utf-8')
    load(tmp_path, 'folder')
    stray = picture(tmp_path / 'stray.png', 3)
    assert 'stray.png lies outside the class folders' in refused(tmp_path, 'folder')
    stray.unlink()
    (tmp_path / 'a' / 'broken.png').write_text('x', 'utf-8')
    assert 'broken.png is not an image' in refused(tmp_path, 'folder')
    (tmp_path / 'a' / 'broken.png').unlink()
    picture(tmp_path / 'a' / 'wide.png', 3, (12, 30, 3))
    assert 'wide.png is 30x12' in refused(tmp_path, 'folder')
    assert load(tmp_path, 'folder', image_size=6).images.shape[1:] == (6, 6, 3)
    assert 'is not a folder' in refused(tmp_path / 'a' / '0.png', 'folder')


# CSV


def table(tmp_path, rows, columns=('path', 'label', 'split'), name='set.csv'):
    path = tmp_path / name
    with path.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def rows(tmp_path, number=12):
    sides = ('train', 'train', 'val', 'test')
    for i in range(number):
        picture(tmp_path / 'images' / f'{i}.png', 5 * i)
    return [(f'images/{i}.png', ('mel', 'nv')[i // 4 % 2], sides[i % 4]) for i in range(number)]


def test_a_csv_lists_paths_relative_to_it(tmp_path):
    data = load(table(tmp_path, rows(tmp_path)), 'csv')
    assert data.class_names == ('mel', 'nv')
    assert data.ids[:2].tolist() == ['images/0.png', 'images/1.png']
    assert data.images[:, 0, 0, 0].tolist() == [5 * i for i in range(12)]
    assert data.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]
    assert data.parts['val'].tolist() == [2, 6, 10]


def test_a_csv_may_have_groups_in_place_of_a_split(tmp_path):
    listed = [
        (path, label, f'patient {i // 2}') for i, (path, label, _) in enumerate(rows(tmp_path, 40))
    ]
    data = load(table(tmp_path, listed, ('path', 'label', 'group')), 'csv')
    patients = np.array([group for _, _, group in listed])
    sides = [set(patients[part].tolist()) for part in data.parts.values()]
    assert sum(map(len, sides)) == 20


def test_a_csv_with_a_byte_order_mark_is_read(tmp_path):
    path = table(tmp_path, rows(tmp_path))
    path.write_text(path.read_text('utf-8'), 'utf-8-sig')
    assert load(path, 'csv').class_names == ('mel', 'nv')


def test_wrong_csvs_are_refused(tmp_path):
    good = rows(tmp_path)
    wrong = table(tmp_path, good, ('file', 'label', 'split'))
    assert 'has no column `path` (it has file, label, split)' in refused(wrong, 'csv')
    unlabelled = table(tmp_path, good, ('path', 'class', 'split'))
    assert 'if one of class holds the classes' in refused(unlabelled, 'csv')
    assert 'lists no images' in refused(table(tmp_path, []), 'csv')
    absent = table(tmp_path, [*good, ('images/99.png', 'nv', 'train')])
    assert '99.png does not exist' in refused(absent, 'csv')
    doubled = table(tmp_path, [*good, good[0]])
    assert "has the id 'images/0.png' more than once" in refused(doubled, 'csv')
    short = table(tmp_path, [*good, ('images/0.png',)])
    assert 'line 14 of' in refused(short, 'csv')
    long = table(tmp_path, [(*good[0], 'more'), *good[1:]])
    assert 'line 2 of' in refused(long, 'csv')
    (tmp_path / 'latin.csv').write_bytes('path,label\nä.png,a\n'.encode('latin-1'))
    assert 'latin.csv is not in UTF-8 (line 2, byte 0xe4' in refused(tmp_path / 'latin.csv', 'csv')
    (tmp_path / 'empty.csv').write_bytes(b'')
    assert 'is empty: give a table with the columns path and label' in refused(
        tmp_path / 'empty.csv', 'csv'
    )
    assert 'is a folder without a prepared set: give a CSV' in refused(tmp_path, 'csv')


# embedded


def test_the_embedded_set_is_loaded():
    data = datasets.load(catalog.get('fashion_mnist_lt_mini'))
    assert data.images.shape == (4978, 28, 28, 1)
    assert {name: len(part) for name, part in data.parts.items()} == {
        'train': 2478, 'val': 500, 'test': 2000,
    }  # fmt: skip
    train = data.images[data.parts['train']] / 255
    settings = catalog.get('fashion_mnist_lt_mini')
    assert train.mean() == pytest.approx(settings.mean[0], abs=0.02)
    assert train.std() == pytest.approx(settings.std[0], abs=0.02)


def test_a_path_stands_in_for_the_embedded_file(tmp_path):
    stand_in = load(npz(tmp_path), kind='fashion_mnist_lt_mini')
    assert stand_in.ids.tolist() == load(npz(tmp_path)).ids.tolist()
    assert 'does not exist' in refused(tmp_path / 'none.npz', 'fashion_mnist_lt_mini')


def test_a_csv_may_name_images_outside_its_folder_only_if_allowed(tmp_path):
    rows = []
    for number in range(20):
        path = tmp_path / 'images' / f'{number}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((6, 6), number, np.uint8)).save(path)
        rows.append(f'../images/{number}.png,{"ab"[number % 2]}')
    (tmp_path / 'lists').mkdir()
    table = tmp_path / 'lists' / 'list.csv'
    table.write_text('path,label\n' + '\n'.join(rows), 'utf-8')
    with pytest.raises(UserError, match='leads out of .*: move the file in there, or allow it'):
        load(table, 'csv')
    assert len(load(table, 'csv', allow_outside=True).labels) == 20
