"""Prepared sets as data of a training: their protocols, folds and groups."""

import numpy as np
import pytest

from ltjax.data import catalog, datasets, prepare, readers
from ltjax.errors import UserError

CLASSES = ('a', 'b', 'c')
LABELS = np.arange(36) % 3
IDS = [f'image {number}' for number in range(36)]
PARTS = ('train', 'train', 'val', 'test')


def source(number):
    return lambda: np.full((10, 8, 3), number, np.uint8)


def items(groups=False):
    return [
        prepare.Item(id_, int(label), source(number), f'patient {number // 3}' if groups else '')
        for number, (id_, label) in enumerate(zip(IDS, LABELS, strict=True))
    ]


def written(folder, splits, **options):
    plan = prepare.Plan(
        name='ours',
        class_names=CLASSES,
        items=items(**options),
        image_size=8,
        channels=3,
        licence='none',
        origin='this test',
        splits=splits,
    )
    prepare.write(folder, plan, images_per_shard=10, report=lambda line: None)
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
    with pytest.raises(UserError, match='fold 4 of 4: data.split.fold is 0 to 3'):
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
    with pytest.raises(UserError, match='brings its own split: set --config.data.split.folds=0'):
        datasets.load(config)


def test_an_unfinished_set_is_refused(tmp_path):
    config = written(tmp_path, {})
    (tmp_path / 'manifest.json').rename(tmp_path / 'unfinished.json')
    with pytest.raises(UserError, match='is not finished'):
        readers.read(config)
