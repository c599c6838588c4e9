import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltjax.data import long_tail
from ltjax.errors import UserError

ISIC_2019 = [4522, 12875, 3323, 867, 2624, 239, 253, 628]


def test_exponential_counts_of_cifar():
    want = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert long_tail.exponential_counts(5000, 10, 100) == want
    assert long_tail.exponential_counts(500, 4, 1) == [500] * 4
    assert long_tail.exponential_counts(500, 1, 100) == [500]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [((500, 0, 10), 'classes'), ((-1, 3, 10), 'images'), ((500, 3, 0.5), 'ratio')],
)
def test_exponential_counts_refuses(arguments, message):
    with pytest.raises(UserError, match=message):
        long_tail.exponential_counts(*arguments)


@pytest.mark.parametrize(
    ('max_count', 'num_classes', 'ratio', 'total'),
    [
        (5000, 10, 100, 12406), (5000, 10, 50, 13996), (5000, 10, 10, 20431),
        (500, 100, 100, 10847), (500, 100, 50, 12608), (500, 100, 10, 19573),
        (6000, 10, 100, 14886),
    ],
)  # fmt: skip
def test_exponential_counts_have_their_published_totals(max_count, num_classes, ratio, total):
    counts = long_tail.exponential_counts(max_count, num_classes, ratio)
    assert sum(counts) == total
    assert (counts[0], counts[-1]) == (max_count, max_count // ratio)


def test_exponential_counts_of_fashion_mnist():
    want = [6000, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60]
    assert long_tail.exponential_counts(6000, 10, 100) == want


def test_cifar_100_has_its_shot_groups():
    counts = np.array(long_tail.exponential_counts(500, 100, 100))
    assert ((counts > 100).sum(), (counts < 20).sum()) == (35, 30)


def test_step_counts_are_halves():
    assert long_tail.step_counts(5000, 10, 100) == [5000] * 5 + [50] * 5
    assert long_tail.step_counts(500, 3, 10) == [500, 50, 50]
    assert long_tail.step_counts(500, 1, 1) == [500]
    with pytest.raises(UserError, match='ratio'):
        long_tail.step_counts(500, 3, 0.5)


def test_the_isic_2019_split_has_its_published_sizes():
    kept = long_tail.decayed_counts(ISIC_2019, 100)
    splits = np.array([long_tail.split_counts_7_1_2(count) for count in kept])
    assert splits.sum(axis=0).tolist() == [16170, 2313, 4621]


@pytest.mark.parametrize(
    ('ratio', 'want'),
    [
        (100, [12875, 4140, 2785, 2013, 609, 404, 149, 129]),
        (300, [12875, 3539, 2035, 1258, 325, 185, 59, 43]),
        (500, [12875, 3290, 1759, 1010, 243, 128, 38, 26]),
    ],
)
def test_isic_2019_lt_has_its_published_counts(ratio, want):
    assert sorted(long_tail.decayed_counts(ISIC_2019, ratio), reverse=True) == want


# All, train, val and test of a class, as LMD's files have them.
ISIC_2019_LT = np.array([
    [4140, 2898, 414, 828], [12875, 9012, 1288, 2575], [2785, 1949, 279, 557],
    [609, 426, 61, 122], [2013, 1409, 202, 402], [129, 90, 13, 26], [149, 104, 15, 30],
    [404, 282, 41, 81],
])  # fmt: skip
ISIC_ARCHIVE = np.array([
    [12875, 9012, 1288, 2575], [4522, 3165, 453, 904], [3393, 2375, 340, 678],
    [1464, 1024, 147, 293], [869, 608, 87, 174], [656, 459, 66, 131], [384, 268, 39, 77],
    [270, 189, 27, 54], [253, 177, 26, 50], [246, 172, 25, 49], [32, 22, 4, 6], [27, 18, 3, 6],
    [15, 10, 2, 3], [14, 9, 2, 3],
])  # fmt: skip


LMD_TEST = '45 39 59 05 49 14 29 41 56 33 15 31 67 82 79 78 87 96 97'


def lmd_table(counts, ratio, seed=0):
    """The sizes of an `lmd_split`, as in the tables above."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    ids = np.char.mod('image %d', np.arange(len(labels)))
    split = long_tail.lmd_split(labels, ids, ratio=ratio, seed=seed)
    of = dict(zip(ids.tolist(), labels.tolist(), strict=True))
    sides = ('train', 'val', 'test')
    table = np.zeros((len(counts), 4), int)
    for name, side in split.items():
        table[of[name], [0, 1 + sides.index(side)]] += 1
    return table


def test_lmd_splits_have_their_published_sizes():
    assert lmd_table(ISIC_2019, 100).tolist() == ISIC_2019_LT.tolist()
    assert lmd_table(ISIC_2019, 100).sum(0).tolist() == [23104, 16170, 2313, 4621]
    assert lmd_table(ISIC_2019, 300).sum(0)[0] == 20319
    assert lmd_table(ISIC_2019, 500).sum(0)[0] == 19369
    assert lmd_table(ISIC_ARCHIVE[:, 0], None).tolist() == ISIC_ARCHIVE.tolist()
    assert ISIC_ARCHIVE.sum(0).tolist() == [25020, 17508, 2509, 5003]


def test_lmd_splits_follow_their_seed_and_stay():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    ids = [f'{i:02d}' for i in range(100)]
    first, again, other = (
        long_tail.lmd_split(labels, ids, ratio=10, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other
    # If this changes, every set prepared by this protocol changes too.
    assert ' '.join(name for name, side in first.items() if side == 'test') == LMD_TEST
    with pytest.raises(UserError, match='raise the ratio'):
        long_tail.lmd_split(labels, ids, ratio=2, seed=0)


def test_decayed_counts_keep_order_and_reach_the_ratio():
    kept = long_tail.decayed_counts(ISIC_2019, 500)
    assert kept[1] == ISIC_2019[1]
    assert np.argsort(kept).tolist() == np.argsort(ISIC_2019).tolist()
    assert all(new <= old for new, old in zip(kept, ISIC_2019, strict=True))
    assert min(kept) == 26  # 12875 / 500 rounded up
    assert long_tail.decayed_counts([7], 1) == [7]


def test_decayed_counts_refuses():
    with pytest.raises(UserError, match='class 1 has no images'):
        long_tail.decayed_counts([5, 0], 10)
    with pytest.raises(UserError, match='raise the ratio'):
        long_tail.decayed_counts([100, 1], 10)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(count=st.integers(0, 10**6))
def test_split_counts_are_a_partition(count):
    train, validation, test = long_tail.split_counts_7_1_2(count)
    assert train + validation + test == count
    assert min(train, validation, test) >= 0
    assert abs(train - 0.7 * count) < 1
    assert abs(validation - 0.1 * count) < 2


LABELS = np.random.default_rng(0).integers(0, 4, 200)


def test_subsample_keeps_the_asked_number_of_each_class():
    rows = long_tail.subsample(LABELS, [20, 10, 5, 0], seed=1)
    assert np.bincount(LABELS[rows], minlength=4).tolist() == [20, 10, 5, 0]
    assert rows.tolist() == sorted(set(rows.tolist()))


def test_subsample_is_nested_and_independent_by_class():
    small = long_tail.subsample(LABELS, [5, 7, 3, 0], seed=1)
    large = long_tail.subsample(LABELS, [30, 7, 9, 20], seed=1)
    assert set(small) <= set(large)
    assert set(small[LABELS[small] == 1]) == set(large[LABELS[large] == 1])


def test_subsample_follows_its_seed():
    counts = [9, 9, 9, 9]
    first, again, other = (long_tail.subsample(LABELS, counts, seed=s) for s in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_subsample_of_everything_is_everything():
    rows = long_tail.subsample(LABELS, np.bincount(LABELS), seed=3)
    assert rows.tolist() == list(range(200))


@pytest.mark.parametrize(
    ('counts', 'message'),
    [
        ([1000, 1, 1, 1], 'class 0 has'),
        ([1, 1, 1, -1], 'class 3 has'),
        ([1, 1, 1], r'0\.\.2'),
    ],
)
def test_subsample_refuses(counts, message):
    with pytest.raises(UserError, match=message):
        long_tail.subsample(LABELS, counts, seed=0)
