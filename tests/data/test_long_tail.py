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


def test_the_isic_2019_split_has_its_published_sizes():
    kept = long_tail.decayed_counts(ISIC_2019, 100)
    splits = np.array([long_tail.split_counts_7_1_2(count) for count in kept])
    assert splits.sum(axis=0).tolist() == [16170, 2313, 4621]


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


@pytest.mark.parametrize('order', [None, np.random.default_rng(5).permutation(200)])
def test_subsample_is_nested_and_independent_by_class(order):
    small = long_tail.subsample(LABELS, [5, 7, 3, 0], seed=1, order=order)
    large = long_tail.subsample(LABELS, [30, 7, 9, 20], seed=1, order=order)
    assert set(small) <= set(large)
    assert set(small[LABELS[small] == 1]) == set(large[LABELS[large] == 1])


def test_subsample_follows_its_seed_or_order():
    counts = [9, 9, 9, 9]
    first, again, other = (long_tail.subsample(LABELS, counts, seed=s) for s in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    earliest = long_tail.subsample(LABELS, counts, seed=1, order=np.arange(200))
    assert earliest.tolist() == sorted(
        row for k in range(4) for row in np.flatnonzero(np.equal(LABELS, k))[:9].tolist()
    )


def test_subsample_of_everything_is_everything():
    rows = long_tail.subsample(LABELS, np.bincount(LABELS), seed=3)
    assert rows.tolist() == list(range(200))


@pytest.mark.parametrize(
    ('counts', 'order', 'message'),
    [
        ([1000, 1, 1, 1], None, 'class 0 has'),
        ([1, 1, 1, -1], None, 'class 3 has'),
        ([1, 1, 1], None, r'0\.\.2'),
        ([1, 1, 1, 1], np.zeros(200, int), 'permutation'),
    ],
)
def test_subsample_refuses(counts, order, message):
    with pytest.raises(UserError, match=message):
        long_tail.subsample(LABELS, counts, seed=0, order=order)
