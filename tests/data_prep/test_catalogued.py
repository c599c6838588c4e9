"""ImageNet-LT, iNaturalist 2018 and sets of the tensorflow-datasets catalogue in miniature; and what is refused."""

import json
import pathlib

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.splits import SplitDict, SplitInfo
from tensorflow_datasets.proto import tf_example_pb2

import fabricated
import tiny
from data_prep import imagenet_lt, inaturalist2018, tfds_set
from data_prep.tools import tool
from ltjax.data import audit, catalog, datasets
from ltjax.data.prepared import records
from ltjax.errors import UserError
from ltjax.run import train
from ltjax.run.trained import Trained


def refused(capsys, module, source, out, *flags):
    """Returns the one line that the program says before it gives up with status 2."""
    argv = [f'--source={source}', f'--out={out}', '--size=8', *flags]
    with pytest.raises(SystemExit) as stopped:
        tool.run(module.SOURCE, module.__doc__, argv)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not (out / 'manifest.json').exists()
    return line


IMAGENET = {
    'train': {'train/n01/n01_1.JPEG': 0, 'train/n02/n02_5.JPEG': 1, 'train/n01/n01_2.JPEG': 0},
    'val': {'train/n02/n02_9.JPEG': 1},
    'test': {'val/n01/ILSVRC2012_val_00000007.JPEG': 0, 'val/n02/ILSVRC2012_val_00000003.JPEG': 1},
}


def imagenet(root, lists=IMAGENET, flat=False):
    for side, labels in lists.items():
        root.mkdir(exist_ok=True)
        lines = [f'{name} {label}\n' for name, label in labels.items()]
        (root / f'ImageNet_LT_{side}.txt').write_text(''.join(lines))
        for name in labels:
            path = root / name
            if flat and side == 'test':
                path = path.parent.parent / path.name
            fabricated.picture(path.with_suffix('.jpg')).rename(path)
    return root


@pytest.mark.parametrize('flat', [False, True])
def test_imagenet_lt_is_read(tmp_path, flat):
    found = fabricated.run(imagenet_lt, imagenet(tmp_path / 'in', flat=flat), tmp_path / 'out')
    assert len(found.class_names) == 1000
    assert found.class_names[:3] == ('n01', 'n02', 'class 2')
    assert found.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert fabricated.has_what_its_benchmarks_take(found, 'imagenet_lt')
    want = {name: side for side, labels in IMAGENET.items() for name in labels}
    assert fabricated.sides(found, 'official') == want


def test_the_lists_of_imagenet_lt_are_checked(tmp_path, capsys, monkeypatch):
    root, out = imagenet(tmp_path / 'in'), tmp_path / 'out'
    assert 'ImageNet_LT_train.txt has the sha256' in refused(capsys, imagenet_lt, root, out)
    monkeypatch.setattr(imagenet_lt, 'DIGESTS', {})
    line = refused(capsys, imagenet_lt, root, out)
    assert 'ImageNet_LT_train.txt has 3 images, not 115846' in line
    sizes = {side: len(labels) for side, labels in IMAGENET.items()}
    monkeypatch.setattr(imagenet_lt, 'SIZES', sizes)
    (root / 'train/n02/n02_9.JPEG').unlink()
    line = refused(capsys, imagenet_lt, root, out)
    assert '1 of 6 labelled images are missing: train/n02/n02_9.JPEG' in line
    found = fabricated.run(imagenet_lt, root, out)
    assert 'val' not in fabricated.sides(found, 'official').values()


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('train/n01/n01_1.JPEG 0', 'line 4 of * names train/n01/n01_1.JPEG again'),
        ('train/n01/n01_4.JPEG', 'line 4 of * is not `PATH LABEL`'),
        ('train/n01/n01_4.JPEG 1000', 'line 4 of * is not `PATH LABEL`'),
        ('train/n07/n07_4.JPEG 1', 'label 1 is n02 and n07'),
    ],
)
def test_lists_that_contradict_themselves_are_refused(tmp_path, capsys, line, message):
    root = imagenet(tmp_path / 'in')
    path = root / 'ImageNet_LT_train.txt'
    path.write_text(path.read_text() + line + '\n')
    said = refused(capsys, imagenet_lt, root, tmp_path / 'out', '--partial')
    assert message.replace('*', str(path)) in said


def test_an_image_in_two_lists_is_refused(tmp_path, capsys):
    twice = IMAGENET | {'val': {'train/n02/n02_5.JPEG': 1}}
    root = imagenet(tmp_path / 'in', twice)
    said = refused(capsys, imagenet_lt, root, tmp_path / 'out', '--partial')
    assert 'train/n02/n02_5.JPEG is in the lists train and val' in said


def annotations(folder, side, per_class):
    """COCO-like JSON whose image ids and order have nothing to do with the classes."""
    labels = [label for label, count in per_class.items() for _ in range(count)]
    images, marks = [], []
    for at, label in enumerate(labels):
        name = f'train_val2018/Plantae/{label}/{side}{at}.jpg'
        images.append({'id': 100 - at, 'width': 12, 'height': 10, 'file_name': name})
        marks.append({'id': at, 'image_id': 100 - at, 'category_id': label})
        fabricated.picture(folder / name)
    content = {'info': {}, 'images': images, 'annotations': marks[::-1], 'categories': []}
    (folder / f'{side}2018.json').write_text(json.dumps(content))


@pytest.fixture
def inaturalist(tmp_path):
    folder = tmp_path / 'in'
    annotations(folder, 'train', {0: 20, 7: 10, 8141: 3})
    annotations(folder, 'val', {0: 3, 8141: 3})
    names = [{'id': 7, 'name': 'Quercus robur'}, {'id': 8141, 'name': 'Apis mellifera'}]
    (folder / 'categories.json').write_text(json.dumps(names))
    return folder


def test_inaturalist_is_read(tmp_path, inaturalist):
    found = fabricated.run(inaturalist2018, inaturalist, tmp_path / 'out')
    assert len(found.class_names) == 8142
    assert fabricated.has_what_its_benchmarks_take(found, 'inaturalist2018')
    assert [found.class_names[k] for k in (0, 7, 8141)] == [
        '0000', '0007 Quercus robur', '8141 Apis mellifera',
    ]  # fmt: skip
    assert all(id_.split('/')[2] == str(k) for id_, k in zip(found.ids, found.labels, strict=True))
    assert found.manifest['splits']['official']['sizes'] == {'train': 33, 'test': 6}
    assert found.manifest['splits']['clean_official']['sizes'] == {'test': 6, 'train': 28, 'val': 5}
    (inaturalist / 'categories.json').unlink()
    assert inaturalist2018.class_names(None)[8141] == '8141'


def test_annotations_that_do_not_fit_are_refused(tmp_path, capsys, inaturalist):
    path, out = inaturalist / 'train2018.json', tmp_path / 'out'
    assert 'train2018.json has 33 images, not 437513' in refused(
        capsys, inaturalist2018, inaturalist, out
    )
    good = json.loads(path.read_text())
    marks, images = good['annotations'], good['images']
    for changes, message in (
        ({'annotations': marks[1:]}, 'has no annotation of train_val2018/Plantae/8141/train32.jpg'),
        ({'annotations': [*marks, marks[0]]}, 'two annotations of an image'),
        ({'images': images[1:]}, 'two annotations of an image, or one of none'),
        ({'images': [*images, images[0]]}, 'names an image twice'),
        ({'annotations': [marks[0] | {'category_id': 8142}, *marks[1:]]}, 'outside 0..8141'),
        ({'annotations': [{}]}, "lacks 'image_id'"),
    ):
        path.write_text(json.dumps(good | changes))
        said = refused(capsys, inaturalist2018, inaturalist, out, '--partial')
        assert message in said, said
    path.write_text('{')
    assert 'is not JSON' in refused(capsys, inaturalist2018, inaturalist, out, '--partial')


def catalogued(root, name, sizes, shape, classes):
    """A set of the catalogue as `tfds build --file_format=array_record` leaves it."""
    builder = tfds.builder(name, data_dir=root, file_format='array_record')
    builder.info.features['label'].names = [f'class {k}' for k in range(classes)]
    folder = pathlib.Path(builder.data_dir)
    folder.mkdir(parents=True)
    infos = []
    for split, number in sizes.items():
        path = folder / f'{name}-{split}.array_record-00000-of-00001'
        writer = ArrayRecordWriter(str(path), 'group_size:1')
        for at in range(number):
            image = np.full(shape, at, np.uint8)
            image[0, 1, 0] = 200  # red, or a bright pixel
            example = tf_example_pb2.Example()
            stored = image[:, :, ::-1] if shape[2] == 3 else image
            png = cv2.imencode('.png', stored)[1].tobytes()
            example.features.feature['image'].bytes_list.value.append(png)
            example.features.feature['label'].int64_list.value.append(at % classes)
            if 'id' in builder.info.features:
                example.features.feature['id'].bytes_list.value.append(b'%d' % at)
            writer.write(example.SerializeToString())
        writer.close()
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=name, split=split, filetype_suffix='array_record'
        )
        infos.append(SplitInfo(split, [number], path.stat().st_size, template))
    builder.info.set_splits(SplitDict(infos))
    builder.info.write_to_directory(folder)
    return root


def tfds_run(name, source, out):
    tfds_set.run([name, f'--source={source}', f'--out={out}', '--size=32', '--threads=2'])
    return records.read(out)


def test_a_set_of_the_catalogue_is_read(tmp_path):
    source = catalogued(tmp_path / 'in', 'cifar10', {'train': 30, 'test': 10}, (32, 32, 3), 10)
    found = tfds_run('cifar10', source, tmp_path / 'out')
    assert found.class_names == tuple(f'class {k}' for k in range(10))
    assert found.labels.tolist() == [*range(10)] * 4
    assert found.ids[[0, 30]].tolist() == ['train-0000000', 'test-0000000']
    images = found.stored()[:]
    assert images[:, 5, 5, 0].tolist() == [*range(30), *range(10)]
    assert (images[:, 0, 1, 0] == 200).all()
    sizes = {name: one['sizes'] for name, one in found.manifest['splits'].items()}
    assert sizes == {
        'official': {'test': 10, 'train': 30},
        'clean_official': {'test': 10, 'train': 20, 'val': 10},
    }


def test_grey_images_and_sets_with_a_training_part_alone_are_read(tmp_path):
    source = catalogued(tmp_path / 'in', 'mnist', {'train': 30}, (28, 28, 1), 10)
    found = tfds_run('mnist', source, tmp_path / 'out')
    assert found.stored()[:].shape == (30, 32, 32, 3)
    assert found.manifest['splits']['7_1_2']['sizes'] == {'test': 10, 'train': 10, 'val': 10}


@pytest.mark.slow
def test_a_set_of_the_catalogue_is_trained_on_as_it_is(tmp_path):
    sizes = {'train': 60, 'test': 20, 'corrupted': 10}
    root = catalogued(tmp_path / 'in', 'cifar10', sizes, (32, 32, 3), 10)
    made = tiny.config('cross_entropy', 'any')
    made.data = catalog.get('tfds')
    made.data.path = str(root)
    data = datasets.load(made.data)
    assert data.class_names == tuple(f'class {k}' for k in range(10))
    assert data.ids[data.parts['test']].tolist() == [f'test-{row:07d}' for row in range(20)]
    assert len(data.parts['train']) + len(data.parts['val']) == 60
    assert len(data.parts['val']) == 10  # of every class, since the set has no part for it
    assert data.images[:3, 5, 5, 0].tolist() == [0, 1, 2]
    assert 'splits that are left out: corrupted' in data.table.notes
    results = train.run(made, tmp_path / 'run')
    assert results['data']['layout'] == 'tfds'
    assert results['data']['split']['from'].startswith('the splits of cifar10/3.0.2')
    whole = Trained.load(tmp_path / 'run').predict(root / 'cifar10' / '3.0.2', side='test')
    with np.load(tmp_path / 'run' / 'predictions.npz') as archive:
        np.testing.assert_allclose(whole.logits, archive['logits'], rtol=1e-4, atol=1e-5)
    audited = audit.examine(root)
    assert (audited.layout, audited.images) == ('tfds', 80)


def test_what_cannot_be_trained_on_as_it_is_is_refused(tmp_path):
    config = catalog.get('tfds')
    (tmp_path / 'empty').mkdir()
    config.path = str(tmp_path / 'empty')
    with pytest.raises(
        UserError, match='holds no set that is prepared. Prepare the set with `tfds build'
    ):
        datasets.load(config)
    config.path = str(catalogued(tmp_path / 'in', 'mnist', {'train': 100}, (28, 28, 1), 10))
    drawn = datasets.load(config)  # a training part alone
    sizes = {name: len(rows) for name, rows in drawn.parts.items()}
    assert sizes == {'train': 70, 'val': 10, 'test': 20}
    (features,) = (tmp_path / 'in').rglob('features.json')
    features.write_text(features.read_text().replace('"28"', '"-1"'))
    with pytest.raises(UserError, match=r'of several sizes: set --config\.data\.image_size'):
        datasets.load(config)
    config.update({'image_size': 20, 'channels': 3})
    assert datasets.load(config).images.shape[1:] == (20, 20, 3)


def test_sets_that_cannot_be_read_are_refused(tmp_path, capsys):
    out = tmp_path / 'out'

    def refused(name):
        with pytest.raises(SystemExit):
            tfds_run(name, tmp_path, out)
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert 'no cifar10 that is prepared. Prepare the set with `tfds build' in refused('cifar10')
    catalogued(tmp_path, 'cifar10', {'train': 10}, (32, 32, 3), 10)
    (info,) = tmp_path.rglob('dataset_info.json')
    good, features = info.read_text(), info.with_name('features.json')
    info.write_text(good.replace('"name": "train"', '"name": "all"'))
    assert 'has no split `train`, but all' in refused('cifar10')
    info.write_text('{')
    assert 'dataset_info.json cannot be opened' in refused('cifar10')
    info.write_text(good)
    features.write_text(features.read_text().replace('"label"', '"species"'))
    assert 'it needs image and label' in refused('cifar10')
    features.write_text(features.read_text().replace('"species"', '"label"'))
    info.write_text(good.replace('array_record', 'tfrecord'))
    for path in tmp_path.rglob('*.array_record-*'):
        path.rename(path.with_name(path.name.replace('array_record', 'tfrecord')))
    assert 'in the format tfrecord, without random access' in refused('cifar10')
    (tmp_path / 'cifar10' / '9.0.0').mkdir()
    (tmp_path / 'cifar10' / '9.0.0' / 'dataset_info.json').write_text(good)
    assert 'has 3.0.2, 9.0.0: name one of them' in refused('cifar10')
