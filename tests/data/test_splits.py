"""Splits: held-out shares, groups that stay together, determinism, fingerprints."""

import hashlib

import numpy as np
import pytest

from ltjax.data import splits
from ltjax.errors import UserError

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [100, 40, 10, 2]))


def split(labels=LABELS, groups=None, val=0.1, test=0.2, seed=0):
    named = splits.split(labels, groups, val=val, test=test, seed=seed)
    return {name: np.flatnonzero(named == name) for name in splits.NAMES}


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


def sides(labels, groups, seed):
    """The side of every image by both ways to split whole groups."""
    fractions = (0.7, 0.1, 0.2)
    yield splits.protocol(labels, groups, fractions=fractions, seed=seed)
    named = np.empty(len(labels), '<U5')
    for name, part in split(labels, groups, seed=seed).items():
        named[part] = name
    yield named


def test_a_class_of_few_groups_has_one_to_train_on():
    labels = np.concatenate([np.zeros(60, int), np.ones(60, int), np.full(2, 2), np.full(3, 3)])
    groups = np.concatenate([np.arange(40).repeat(3), [40, 41], [42, 42, 42]])
    for seed in range(12):
        for named in sides(labels, groups, seed):
            assert set(labels[named == 'train'].tolist()) == {0, 1, 2, 3}
            assert set(named.tolist()) == set(splits.NAMES)
            assert all(len(set(named[groups == g].tolist())) == 1 for g in range(43))


def test_the_group_to_train_on_is_one_to_spare():
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 2])
    group = np.array([0, 0, 1, 1, 2, 3, 4, 4, 5, 6])
    part = np.array([0, 0, 1, 1, 1, 1, 2, 2, 2, 1])
    # Of class 1, part 2 has two groups: the smaller one goes; of class 2 there is one group.
    assert splits._to_train_on(labels, group, part).tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 0, 0]
    alone = np.where(part == 2, 0, part)
    assert splits._to_train_on(labels[5:6], group[5:6], part[5:6]).tolist() == [1]
    fine = np.where(labels == 2, 0, alone)
    assert splits._to_train_on(labels, group, fine).tolist() == fine.tolist()


def test_too_few_groups_are_refused():
    with pytest.raises(UserError, match='3 groups cannot be split into 5 parts'):
        split(groups=np.arange(len(LABELS)) % 3)


def test_too_few_images_for_the_folds_are_refused():
    with pytest.raises(UserError, match='the groups cannot be split'):
        split(labels=np.arange(8) % 2, groups=np.arange(8))


def test_an_image_without_a_group_is_its_own():
    groups = np.array([f'p{i // 3}' if i % 2 else '' for i in range(len(LABELS))])
    named = splits.split(LABELS, groups, val=0.1, test=0.2, seed=0)
    assert 0.1 < np.mean(named[groups == ''] == 'test') < 0.3
    for group in set(groups) - {''}:
        assert len(set(named[groups == group])) == 1


@pytest.mark.parametrize('grouped', [False, True])
def test_validation_is_held_out_where_classes_allow_it(grouped):
    groups = np.arange(len(LABELS)) // 2 if grouped else None
    named = splits.hold_out(LABELS, groups, fraction=0.2, seed=0)
    held = np.bincount(LABELS[named == 'val'], minlength=4)
    assert held[0] in range(18, 23)
    assert held[3] <= (1 if grouped else 0)
    assert set(LABELS[named == 'train']) == {0, 1, 2, 3}
    if grouped:
        assert all(len(set(named[groups == g])) == 1 for g in range(len(LABELS) // 2))
    with pytest.raises(UserError, match='data.split.val is 0'):
        splits.hold_out(LABELS, groups, fraction=0, seed=0)


@pytest.mark.parametrize('grouped', [False, True])
def test_folds_hold_equal_shares_of_every_class(grouped):
    groups = np.arange(len(LABELS)) if grouped else None
    folds = splits.k_fold(LABELS, groups, folds=5, seed=0)
    assert folds.dtype == np.int32
    table = np.array([np.bincount(folds[np.equal(LABELS, k)], minlength=5) for k in range(4)])
    assert table.shape == (4, 5)
    assert (table.max(1) - table.min(1) <= 1).all()
    assert table.sum(0).max() - table.sum(0).min() <= 1


def lesions(seed=1):
    """Labels and groups of one to eight images, most groups of a single class."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, 300)
    classes = rng.choice(4, 300, p=[0.6, 0.25, 0.1, 0.05])
    labels, groups = np.repeat(classes, sizes), np.repeat(np.arange(300), sizes)
    labels[rng.random(len(labels)) < 0.02] = 0
    order = rng.permutation(len(labels))
    return labels[order], np.char.mod('lesion %d', groups[order])


def test_folds_keep_groups_together_and_classes_even():
    labels, groups = lesions()
    for seed in range(3):
        folds = splits.k_fold(labels, groups, folds=5, seed=seed)
        assert all(len(set(folds[groups == name])) == 1 for name in set(groups.tolist()))
        for k, count in enumerate(np.bincount(labels)):
            shares = np.bincount(folds[labels == k], minlength=5) / count
            assert np.abs(shares - 0.2).max() < (0.01, 0.01, 0.04, 0.06)[k]


@pytest.mark.parametrize('fractions', [(0.7, 0.1, 0.2), (0.8, 0.1, 0.1), (0.7, 0.0, 0.3)])
def test_a_protocol_keeps_groups_together_and_classes_even(fractions):
    labels, groups = lesions()
    named = splits.protocol(labels, groups, fractions=fractions, seed=0)
    assert all(len(set(named[groups == name])) == 1 for name in set(groups.tolist()))
    for k, count in enumerate(np.bincount(labels)):
        for name, fraction in zip(splits.NAMES, fractions, strict=True):
            share = (named[labels == k] == name).sum() / count
            assert abs(share - fraction) < (0.01, 0.01, 0.04, 0.06)[k], (name, k)


def test_images_without_a_group_are_each_their_own():
    groups = np.where(np.arange(len(LABELS)) % 4 == 0, 'patient', '')
    folds = splits.k_fold(LABELS, groups, folds=2, seed=0)
    assert len(set(folds[groups == 'patient'])) == 1
    assert np.bincount(folds).tolist() == [76, 76]


def test_folds_and_protocols_stay_what_they_are():
    # If this changes, every prepared set changes too: `groups` of three, and none.
    for groups, want in (
        (None, WITHOUT),
        (np.char.mod('%d', np.arange(len(LABELS)) // 3), GROUPED),
    ):
        folds = splits.k_fold(LABELS, groups, folds=5, seed=0)
        named = splits.protocol(LABELS, groups, fractions=(0.7, 0.1, 0.2), seed=0)
        prints = [hashlib.sha256(''.join(map(str, part)).encode()) for part in (folds, named)]
        assert [digest.hexdigest()[:8] for digest in prints] == want
        assert (folds != splits.k_fold(LABELS, groups, folds=5, seed=1)).any()
        other = splits.protocol(LABELS, groups, fractions=(0.7, 0.1, 0.2), seed=1)
        assert (named != other).any()


WITHOUT, GROUPED = ['bd727ce4', 'c5c092ae'], ['f92ab591', '652113ed']

# Images, train, val and test of every class of Hyper-Kvasir, as in LMD's files.
HYPER_KVASIR = np.array([
    [41, 33, 4, 4], [53, 43, 5, 5], [646, 516, 65, 65], [1148, 918, 115, 115],
    [1009, 807, 101, 101], [1002, 802, 100, 100], [989, 791, 99, 99], [403, 323, 40, 40],
    [260, 208, 26, 26], [6, 4, 1, 1], [9, 7, 1, 1], [131, 105, 13, 13], [1028, 822, 103, 103],
    [999, 799, 100, 100], [391, 313, 39, 39], [764, 610, 77, 77], [35, 27, 4, 4],
    [201, 161, 20, 20], [11, 9, 1, 1], [443, 355, 44, 44], [28, 22, 3, 3], [133, 107, 13, 13],
    [932, 746, 93, 93],
])  # fmt: skip


def test_the_8_1_1_split_of_hyper_kvasir_has_its_published_sizes():
    labels = np.repeat(np.arange(23), HYPER_KVASIR[:, 0])
    named = splits.protocol(labels, None, fractions=(0.8, 0.1, 0.1), seed=0)
    table = [[np.sum(named[labels == k] == name) for name in splits.NAMES] for k in range(23)]
    assert np.array(table).tolist() == HYPER_KVASIR[:, 1:].tolist()


@pytest.mark.parametrize(
    'fractions', [(0.7, 0.1, 0.2), (0.1, 0.5, 0.4), (0.5, 0.5, 0), (0.98, 0.01, 0.01)]
)
def test_every_class_has_an_image_where_it_can(fractions):
    labels = np.repeat(np.arange(9), [1, 2, 3, 4, 5, 9, 20, 100, 1000])
    named = splits.protocol(labels, None, fractions=fractions, seed=0)
    for k, count in enumerate(np.bincount(labels)):
        held = {name: int((named[labels == k] == name).sum()) for name in splits.NAMES}
        assert sum(held.values()) == count
        assert held['train'] >= 1
        for name, fraction in zip(splits.NAMES, fractions, strict=True):
            assert held[name] >= (count >= 3 and fraction > 0)
            assert held[name] == 0 or fraction > 0
            assert abs(held[name] - fraction * count) < 2.5


@pytest.mark.parametrize(
    'fractions', [(0.7, 0.1, 0.1), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1), (0.8, 0.2, 0.2)]
)
def test_impossible_fractions_of_a_protocol_are_refused(fractions):
    with pytest.raises(UserError, match='must sum to 1, train above 0'):
        splits.protocol(LABELS, None, fractions=fractions, seed=0)


def test_impossible_folds_are_refused():
    for folds in (1, len(LABELS) + 1):
        with pytest.raises(UserError, match=f'{folds} folds of {len(LABELS)} images'):
            splits.k_fold(LABELS, None, folds=folds, seed=0)
    with pytest.raises(UserError, match='4 groups cannot be dealt into 5 parts'):
        splits.k_fold(LABELS, np.arange(len(LABELS)) % 4, folds=5, seed=0)
