"""Splits: held-out shares, groups that stay together, determinism, fingerprints."""

import numpy as np
import pytest

from ltjax.data import splits
from ltjax.errors import UserError

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [100, 40, 10, 2]))


def split(labels=LABELS, groups=None, val=0.1, test=0.2, seed=0):
    return splits.split(labels, groups, val=val, test=test, seed=seed)


@pytest.mark.parametrize('grouped', [False, True])
def test_every_image_lies_on_one_side(grouped):
    parts = split(groups=np.arange(len(LABELS)) // 3 if grouped else None)
    assert np.sort(np.concatenate(list(parts.values()))).tolist() == list(range(len(LABELS)))
    for part in parts.values():
        assert np.array_equal(part, np.sort(part))


def test_classes_are_held_out_by_their_share():
    parts = split()
    counts = {name: np.bincount(LABELS[part], minlength=4).tolist() for name, part in parts.items()}
    assert counts == {'train': [70, 28, 7, 2], 'val': [10, 4, 1, 0], 'test': [20, 8, 2, 0]}


@pytest.mark.parametrize('as_names', [False, True])
def test_no_group_lies_on_two_sides(as_names):
    groups = np.random.default_rng(1).integers(0, 40, len(LABELS))
    groups = np.char.mod('patient %d', groups) if as_names else groups
    for seed in range(3):
        parts = split(groups=groups, seed=seed)
        sides = [set(groups[part].tolist()) for part in parts.values()]
        assert sum(map(len, sides)) == len(set(groups.tolist()))
        assert 0.1 < len(parts['test']) / len(LABELS) < 0.3
        assert 0.04 < len(parts['val']) / len(LABELS) < 0.2


@pytest.mark.parametrize('grouped', [False, True])
def test_the_seed_alone_chooses_the_split(grouped):
    groups = np.arange(len(LABELS)) // 2 if grouped else None
    ids = np.char.mod('%d', np.arange(len(LABELS)))
    prints = [splits.fingerprint(split(groups=groups, seed=seed), ids) for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_the_split_stays_what_it_is():
    # If this changes, every published result on a set without its own split changes too.
    ids = np.char.mod('%d', np.arange(len(LABELS)))
    assert splits.fingerprint(split(), ids)[:16] == 'df814a87e9878e02'


def test_a_fingerprint_knows_sides_and_not_order():
    ids = np.array(['a', 'b', 'c', 'd'])
    parts = {'train': np.array([0, 1]), 'val': np.array([2]), 'test': np.array([3])}
    turned = parts | {'train': np.array([1, 0])}
    moved = parts | {'val': np.array([3]), 'test': np.array([2])}
    assert splits.fingerprint(parts, ids) == splits.fingerprint(turned, ids)
    assert splits.fingerprint(parts, ids) != splits.fingerprint(moved, ids)


@pytest.mark.parametrize(
    ('val', 'test'), [(0.0, 0.2), (0.1, 0.0), (0.5, 0.5), (-0.1, 0.2), (1.0, 0.1)]
)
def test_impossible_fractions_are_refused(val, test):
    with pytest.raises(UserError, match=f'val={val} and test={test}'):
        split(val=val, test=test)


def test_too_few_groups_are_refused():
    with pytest.raises(UserError, match='3 groups cannot be split into 5 parts'):
        split(groups=np.arange(len(LABELS)) % 3)


def test_too_few_images_for_the_folds_are_refused():
    with pytest.raises(UserError, match='the groups cannot be split'):
        split(labels=np.arange(8) % 2, groups=np.arange(8))


def test_a_column_of_splits_is_taken_as_it_is():
    parts = splits.from_column(np.array(['test', 'train', 'val', 'train']))
    assert {name: part.tolist() for name, part in parts.items()} == {
        'train': [1, 3], 'val': [2], 'test': [0],
    }  # fmt: skip
    with pytest.raises(UserError, match=r"unknown split 'valid': use train, val or test"):
        splits.from_column(np.array(['train', 'valid']))
