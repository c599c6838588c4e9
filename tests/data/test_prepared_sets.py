"""Prepared sets as data of a training: their protocols, folds and groups."""

import numpy as np
import pytest

import tiny
from ltjax.data import catalog, datasets, pipeline, reading
from ltjax.data.prepared import writing
from ltjax.data.settings import Data
from ltjax.errors import UserError

CLASSES = ('a', 'b', 'c')
LABELS = np.arange(36) % 3
IDS = [f'image {number}' for number in range(36)]
PARTS = ('train', 'train', 'val', 'test')


def source(number):
    return lambda: np.full((10, 8, 3), number, np.uint8)


def items(groups=False):
    return [
        writing.Item(id_, int(label), source(number), f'patient {number // 3}' if groups else '')
        for number, (id_, label) in enumerate(zip(IDS, LABELS, strict=True))
    ]


def written(folder, splits, **options):
    plan = writing.Plan(
        name='ours',
        class_names=CLASSES,
        items=items(**options),
        image_size=8,
        channels=3,
        licence='none',
        origin='this test',
        splits=splits,
    )
    writing.write(folder, plan, images_per_shard=10, report=lambda line: None)
    config = catalog.get('folder')
    config.path = str(folder)
    return config


def official():
    return {id_: PARTS[number // 3 % 4] for number, id_ in enumerate(IDS[:24])}


def folds():
    return {id_: str(number // 3 % 4) for number, id_ in enumerate(IDS)}


def test_the_only_protocol_is_taken_and_images_it_does_not_use_are_left_out(tmp_path):
    data = datasets.load(written(tmp_path, {'official': official()}))
    assert data.class_names == CLASSES
    assert data.images.shape == (24, 8, 8, 3)
    assert {name: len(part) for name, part in data.parts.items()} == {
        'train': 12,
        'val': 6,
        'test': 6,
    }
    for name, part in data.parts.items():
        assert {official()[id_] for id_ in data.ids[part]} == {name}
    numbers = [IDS.index(id_) for id_ in data.ids]
    np.testing.assert_array_equal(data.images[:, 0, 0, 0], numbers)
    np.testing.assert_array_equal(data.labels, LABELS[numbers])


@pytest.mark.parametrize('in_memory', [True, False])
@pytest.mark.parametrize('damage', ['absent', 'empty', 'cut', 'flipped'])
def test_a_damaged_shard_is_said_in_a_line(tmp_path, monkeypatch, damage, in_memory):
    config = written(tmp_path, {'official': official()})
    monkeypatch.setattr(reading, 'IN_MEMORY_BYTES', in_memory << 32)
    shard = tmp_path / 'images-00001.array_record'
    whole = shard.read_bytes()
    wrong = {
        'empty': b'',
        'cut': whole[: len(whole) // 2],
        'flipped': bytes(255 - byte if byte else 0 for byte in whole),
    }
    shard.unlink()
    if damage != 'absent':
        shard.write_bytes(wrong[damage])
    with pytest.raises(UserError, match=r'is damaged \(.*python -m ltjax.data.audit') as error:
        datasets.load(config).images[:]
    assert '\n' not in str(error.value)


def test_one_of_several_protocols_must_be_chosen(tmp_path):
    config = written(tmp_path, {'official': official(), 'four': folds()})
    with pytest.raises(UserError, match='has the splits official, four: choose one with'):
        datasets.load(config)
    config.split.protocol = 'offficial'
    with pytest.raises(UserError, match='did you mean official'):
        datasets.load(config)
    config.split.protocol = 'official'
    assert len(datasets.load(config).labels) == 24
    config.split.protocol = 'none'
    assert len(datasets.load(config).labels) == 36


def test_every_image_is_tested_in_one_of_the_folds(tmp_path):
    config = written(tmp_path, {'four': folds()})
    tested = []
    for fold in range(4):
        config.split.fold = fold
        data = datasets.load(config)
        assert {folds()[id_] for id_ in data.ids[data.parts['test']]} == {str(fold)}
        sides = np.concatenate(list(data.parts.values()))
        assert sorted(sides) == list(range(36))
        assert len(data.parts['val']) == 4  # a tenth of all, out of those that are not tested
        tested += data.ids[data.parts['test']].tolist()
    assert sorted(tested) == sorted(IDS)
    config.split.fold = 4
    with pytest.raises(UserError, match='fold 4 of 4: data.split.fold is one of 0, 1, 2, 3'):
        datasets.load(config)


def test_folds_may_be_drawn_and_do_not_cut_groups(tmp_path):
    config = written(tmp_path, {}, groups=True)
    config.split.update({'folds': 3, 'val': 0.2})
    tested = []
    for fold in range(3):
        config.split.fold = fold
        data = datasets.load(config)
        patients = {
            name: {IDS.index(id_) // 3 for id_ in data.ids[part]}
            for name, part in data.parts.items()
        }
        assert not patients['train'] & patients['test']
        assert not patients['train'] & patients['val']
        assert not patients['val'] & patients['test']
        tested += data.ids[data.parts['test']].tolist()
    assert sorted(tested) == sorted(IDS)


def test_folds_do_not_break_a_split_of_the_files(tmp_path):
    config = written(tmp_path, {'official': official()})
    config.split.folds = 3
    with pytest.raises(UserError, match='brings its own split, which folds would break'):
        datasets.load(config)


def test_an_unfinished_set_is_refused(tmp_path):
    config = written(tmp_path, {})
    (tmp_path / 'manifest.json').rename(tmp_path / 'unfinished.json')
    with pytest.raises(UserError, match='is not finished'):
        reading.read(Data.of(config))


def test_a_set_too_large_for_memory_is_read_batch_by_batch(tmp_path, monkeypatch):
    config = written(tmp_path, {'official': official()})
    config.image_size = 6
    config.channels = 1
    whole = datasets.load(config)
    monkeypatch.setattr(reading, 'IN_MEMORY_BYTES', 0)
    stored = datasets.load(config)
    assert isinstance(whole.images, np.ndarray)
    assert not isinstance(stored.images, np.ndarray)
    assert stored.images.shape == whole.images.shape == (24, 6, 6, 1)
    assert stored.images.nbytes == whole.images.nbytes
    for part in whole.parts:
        images = stored.images_of(part)
        expected = whole.images_of(part)
        assert len(images) == len(expected)
        np.testing.assert_array_equal(images[:], expected)
        np.testing.assert_array_equal(images[np.array([3, 0, 3])], expected[[3, 0, 3]])
        np.testing.assert_array_equal(images[2:4], expected[2:4])


@pytest.mark.slow
def test_training_from_disk_gives_the_bits_of_training_from_memory(tmp_path, monkeypatch):
    arrays = tiny.arrays()
    ids = [f'{number:06d}' for number in range(len(arrays['labels']))]
    plan = writing.Plan(
        name='tiny',
        class_names=CLASSES,
        items=[
            writing.Item(id_, int(label), lambda image=image: image)
            for id_, label, image in zip(ids, arrays['labels'], arrays['images'], strict=True)
        ],
        image_size=arrays['images'].shape[1],
        channels=arrays['images'].shape[3],
        licence='none',
        origin='this test',
        splits={'official': dict(zip(ids, arrays['split'].tolist(), strict=True))},
    )
    writing.write(tmp_path / 'set', plan, report=lambda line: None)
    made = tiny.config('cross_entropy', tiny.npz(tmp_path / 'data.npz'))
    from_memory = tiny.run(made, tmp_path / 'memory')
    made.data.path = str(tmp_path / 'set')
    monkeypatch.setattr(reading, 'IN_MEMORY_BYTES', 0)
    monkeypatch.setattr(pipeline, 'RESIDENT_BYTES', 0)
    from_disk = tiny.run(made, tmp_path / 'disk')
    assert tiny.same(from_disk[0], from_memory[0])
    assert from_disk[1] == from_memory[1]
    assert tiny.timeless(from_disk[2]) == tiny.timeless(from_memory[2])
