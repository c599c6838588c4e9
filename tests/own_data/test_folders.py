"""Folders as they come: splits by many names, wrappers, hierarchies, strays, files that are no images."""

import numpy as np
import pytest
from PIL import Image

from ltjax.data import audit, summary
from own_data.sets import by_class, config, folder, pixels, refused, save, taken

SPLITS = {
    'long': ('Training', 'Validation', 'Testing'),
    'short': ('tr', 'dev', 'test'),
    'capitals': ('TRAIN', 'VALID', 'TEST'),
    'usual': ('train', 'val', 'test'),
}


@pytest.mark.parametrize('names', SPLITS.values(), ids=SPLITS)
def test_usual_names_of_splits_are_understood_and_said(tmp_path, names):
    for i, name in enumerate(names):
        folder(tmp_path / name, {'mel': 3, 'nv': 4}, start=10 * i)
    data = taken(tmp_path)
    assert data.class_names == ('mel', 'nv')
    for side, name in zip(('train', 'val', 'test'), names, strict=True):
        assert {id_.split('/')[0] for id_ in data.ids[data.parts[side]].tolist()} == {name}
    told = summary.text(summary.describe(data, {}))
    assert f'the folders {", ".join(sorted(names))}' in told
    for side, name in zip(('train', 'val', 'test'), names, strict=True):
        assert name == side or f'{name} is read as {side}' in told


def test_validation_is_held_out_where_no_folder_brings_it(tmp_path):
    folder(tmp_path / 'train', {'mel': 30, 'nv': 20, 'rare': 2})
    folder(tmp_path / 'test', {'mel': 5, 'nv': 5, 'rare': 1}, start=60)
    data = taken(tmp_path)
    assert len(data.parts['test']) == 11
    held = np.bincount(data.labels[data.parts['val']], minlength=3)
    assert held.tolist() == [3, 2, 0]  # a class too small keeps its images in training
    assert data.train_counts.tolist() == [27, 18, 2]
    told = summary.text(summary.describe(data, {}))
    assert '10% of its training images are held out for validation' in told
    assert taken(tmp_path, split__val=0.2).train_counts.tolist() == [24, 16, 2]


@pytest.mark.parametrize('sides', [('train', 'test'), ('train', 'val', 'test')])
@pytest.mark.parametrize('beside', ['samples/a', 'results/x/y', 'extra'])
def test_images_beside_splits_are_refused(tmp_path, sides, beside):
    for i, side in enumerate(sides):
        folder(tmp_path / side, {'mel': 3, 'nv': 3}, start=10 * i)
    folder(tmp_path, {beside: 2}, start=80)
    said = refused(tmp_path)
    assert f'folders named as splits ({", ".join(sorted(sides))}) beside others' in said
    assert beside.split('/')[0] in said


def test_folders_without_images_beside_splits_are_passed_over(tmp_path):
    for i, side in enumerate(('train', 'val', 'test')):
        folder(tmp_path / side, {'mel': 3, 'nv': 3}, start=10 * i)
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results' / 'table.csv').write_text('x', 'utf-8')
    data = taken(tmp_path)
    assert data.class_names == ('mel', 'nv')
    assert data.table.written.passed_over == {'results/': 1, '.csv': 1}


def test_two_folders_of_one_split_are_refused(tmp_path):
    for i, side in enumerate(('train', 'Training', 'test')):
        folder(tmp_path / side, {'mel': 3, 'nv': 3}, start=10 * i)
    assert 'which both mean train: make them one' in refused(tmp_path)


def test_a_class_may_be_called_like_a_split_if_the_classes_are_listed(tmp_path):
    folder(tmp_path, {'dev': 8, 'prod': 8, 'test': 8})
    assert 'folders named as splits (dev, test) beside' in refused(tmp_path)
    data = taken(tmp_path, class_order='dev,prod,test')
    assert by_class(data) == {'dev': 8, 'prod': 8, 'test': 8}


def test_without_a_test_folder_it_is_said(tmp_path):
    folder(tmp_path / 'train', {'mel': 3, 'nv': 3})
    assert 'the test split of' in (said := refused(tmp_path))
    assert '(it has train): add the folder, or give one folder of classes' in said


def test_a_wrapper_is_named_with_the_command(tmp_path):
    folder(tmp_path / 'archive', {'mel': 5, 'nv': 5})
    (tmp_path / '__MACOSX' / 'archive').mkdir(parents=True)
    (tmp_path / '__MACOSX' / 'archive' / '._0.png').write_bytes(b'shadow')
    said = refused(tmp_path)
    assert f'if they are the classes, give --config.data.path={tmp_path}/archive' in said
    assert by_class(taken(tmp_path / 'archive')) == {'mel': 5, 'nv': 5}


def test_a_wrapper_of_splits_is_named(tmp_path):
    for i, side in enumerate(('Training', 'Testing')):
        folder(tmp_path / 'data' / side, {'mel': 3, 'nv': 3}, start=10 * i)
    said = refused(tmp_path)
    assert f'if they are the splits, give --config.data.path={tmp_path}/data' in said


def test_a_hierarchy_is_refused_unless_it_is_said_what_it_means(tmp_path):
    folder(tmp_path, {'benign/nevus': 8, 'benign/keratosis': 8, 'malignant/melanoma': 8})
    said = refused(tmp_path)
    assert 'benign holds only folders (keratosis, nevus), so it is no class' in said
    assert '--config.data.subfolders=group' in said
    assert by_class(taken(tmp_path, subfolders='class')) == {
        'benign/keratosis': 8, 'benign/nevus': 8, 'malignant/melanoma': 8,
    }  # fmt: skip
    assert by_class(taken(tmp_path, subfolders='flatten')) == {'benign': 16, 'malignant': 8}


def test_subfolders_may_be_patients(tmp_path):
    counts = {f'{name}/p{k}': 4 for name in ('mel', 'nv') for k in range(10)}
    data = taken(folder(tmp_path, counts), subfolders='group')
    patients = np.array([id_.split('/')[1] for id_ in data.ids.tolist()])
    sides = [set(patients[part].tolist()) for part in data.parts.values()]
    assert sum(map(len, sides)) == 10  # a patient of both classes lies on one side too


def test_splits_below_classes_are_named(tmp_path):
    counts = {f'{name}/{side}': 3 for name in ('mel', 'nv') for side in ('train', 'test')}
    said = refused(folder(tmp_path, counts))
    assert f'put the splits above the classes, as {tmp_path}/test/mel' in said


@pytest.mark.parametrize(
    ('name', 'format_'),
    [('x.jfif', 'JPEG'), ('x.pgm', 'PPM'), ('x', 'PNG'), ('x.JPE', 'JPEG'), ('x.gif', 'GIF')],
)
def test_images_are_known_by_how_they_begin(tmp_path, name, format_):
    folder(tmp_path, {'a': 6, 'b': 6})
    mode = {'PPM': 'L', 'GIF': 'P'}.get(format_, 'RGB')
    picture = Image.fromarray(pixels(90)).convert(mode)
    picture.save(tmp_path / 'a' / name, format_)
    data = taken(tmp_path, channels=3)
    assert by_class(data) == {'a': 7, 'b': 6}
    assert f'a/{name}' in data.ids.tolist()


def test_what_is_passed_over_is_counted_by_kind(tmp_path):
    folder(tmp_path, {'a': 6, 'b': 6})
    for name in ('1.dcm', '2.dcm', 'scan'):
        (tmp_path / 'a' / name).write_bytes(bytes(128) + b'DICM' + bytes(9))
    (tmp_path / 'b' / 'notes.TXT').write_text('x', 'utf-8')
    (tmp_path / '.DS_Store').write_bytes(b'x')
    (tmp_path / 'a' / '._0.png').write_bytes(b'shadow')
    data = taken(tmp_path)
    kinds = {'DICOM': 3, '.txt': 1, '.DS_Store': 1, '._*': 1}
    assert data.table.written.passed_over == kinds
    said = summary.describe(data, {})
    assert said['passed_over'] == kinds
    assert 'passed over: 3 DICOM' in summary.text(said)
    assert 'passed over: 3 DICOM' in ' '.join(audit.examine(tmp_path).notes)


def test_sixteen_bits_are_refused_by_name(tmp_path):
    folder(tmp_path, {'a': 6, 'b': 6})
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(tmp_path / 'a' / 'deep.png')
    assert 'a/deep.png has more than 8 bits a channel' in refused(tmp_path)


def test_an_images_file_beside_class_folders_is_refused(tmp_path):
    folder(tmp_path, {'a': 6, 'b': 6})
    save(tmp_path / 'stray.png', 90)
    assert 'stray.png lies outside the class folders' in refused(tmp_path)


def test_equal_images_are_kept_on_one_side(tmp_path):
    folder(tmp_path, {'a': 30, 'b': 30})
    for i in range(10):
        (tmp_path / 'a' / f'copy{i}.png').write_bytes((tmp_path / 'a' / f'{i}.png').read_bytes())
    for seed in range(3):
        data = taken(tmp_path, split__seed=seed)
        side = {id_: name for name, part in data.parts.items() for id_ in data.ids[part].tolist()}
        assert all(side[f'a/{i}.png'] == side[f'a/copy{i}.png'] for i in range(10))


@pytest.mark.parametrize('sides', [('train', 'test'), ('train', 'val'), ('val', 'test')])
def test_equal_images_on_two_sides_of_a_split_are_refused(tmp_path, sides):
    for i, side in enumerate(('train', 'val', 'test')):
        folder(tmp_path / side, {'a': 4, 'b': 4}, start=10 * i)
    one, other = sides
    Image.open(tmp_path / one / 'a' / '0.png').save(tmp_path / other / 'a' / 'copy.bmp')
    said = refused(tmp_path)
    assert '1 sets of equal images lie on two sides of the split' in said
    assert f'{one}/a/0.png ({one})' in said
    data = taken(tmp_path, split__allow_leaks=True)
    assert data.arrangement.leaks == {'sets of equal images': 1}
    told = summary.describe(data, {})
    assert 'NOTE: 1 sets of equal images lie on two sides of this split' in summary.text(told)
    assert 'so that the figures are too good' in summary.warnings(told)[0]
    assert config(tmp_path).split.allow_leaks is False


@pytest.mark.parametrize('inner', ['masks', 'train', 'old/x'])
def test_folders_of_images_beside_images_of_a_class_are_refused(tmp_path, inner):
    folder(tmp_path, {'a': 8, 'b': 8, f'a/{inner}': 4})
    said = refused(tmp_path)
    assert f'a holds images and also folders of images ({inner.split("/")[0]})' in said
    assert by_class(taken(tmp_path, subfolders='flatten')) == {'a': 12, 'b': 8}


@pytest.mark.parametrize('name', ['c', 'test'])
def test_a_link_in_the_place_of_a_class_is_refused_whatever_may_be_left_out(tmp_path, name):
    root = folder(tmp_path / 'set', {'a': 8, 'b': 8})
    folder(tmp_path / 'elsewhere', {'x': 8}, start=50)
    (root / name).symlink_to(tmp_path / 'elsewhere')
    for on_damaged in ('stop', 'exclude'):
        assert 'is a link to a folder in the place of a class' in refused(
            root, on_damaged=on_damaged
        )


def test_a_folder_of_an_impossible_name_is_refused_whatever_may_be_left_out(tmp_path):
    folder(tmp_path, {'a': 8, 'b': 8, 'c\nd': 8})
    assert 'which no table can hold' in refused(tmp_path, on_damaged='exclude')


def test_a_manifest_of_others_makes_no_prepared_set(tmp_path):
    root = folder(tmp_path, {'a': 8, 'b': 8})
    for content in ('{"name": "x"}', '[1]', 'text'):
        (root / 'manifest.json').write_text(content, 'utf-8')
        assert by_class(taken(root)) == {'a': 8, 'b': 8}


def test_a_text_is_no_image_whatever_it_begins_with(tmp_path):
    root = folder(tmp_path, {'a': 8, 'b': 8})
    (root / 'a' / 'notes.txt').write_text('P1 was treated with 3 doses', 'utf-8')
    assert taken(root).table.written.passed_over == {'.txt': 1}


@pytest.mark.parametrize('names', [('training_set', 'test_set'), ('images_train', 'images-test')])
def test_sets_and_images_around_the_name_of_a_split_are_understood(tmp_path, names):
    for i, name in enumerate(names):
        folder(tmp_path / name, {'mel': 10, 'nv': 10}, start=30 * i)
    data = taken(tmp_path)
    assert data.class_names == ('mel', 'nv')
    assert len(data.parts['test']) == 20
