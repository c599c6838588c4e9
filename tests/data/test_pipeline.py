"""Streams that a step addresses, and the feed that brings their images to the devices."""

import threading
import time

import jax
import numpy as np
import pytest

from ltjax import sharding
from ltjax.data import pipeline
from ltjax.errors import UserError

COUNTS = (40, 16, 4)
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(3), COUNTS)).astype(np.int32)


BATCH = 24  # which three classes and eight devices can share


def stream(sampler='instance_balanced', seed=0, batch_size=BATCH):
    return pipeline.index_stream(
        LABELS, sampler=sampler, batch_size=batch_size, seed=seed, num_classes=3
    )


@pytest.mark.parametrize('sampler', pipeline.SAMPLERS)
def test_a_batch_depends_on_seed_and_step_alone(sampler):
    forwards = [stream(sampler)[step] for step in range(20)]
    backwards = stream(sampler)
    for step in reversed(range(20)):
        assert backwards[step].tolist() == forwards[step].tolist()
        assert backwards[step].dtype == np.int32
        assert backwards[step].shape == (BATCH,)
    others = [stream(sampler, seed=1)[step].tolist() for step in range(20)]
    assert others != [batch.tolist() for batch in forwards]
    assert len({tuple(batch.tolist()) for batch in forwards}) == 20


def test_steps_far_ahead_can_be_addressed():
    for sampler in pipeline.SAMPLERS:
        assert stream(sampler)[1_000_000].max() < len(LABELS)


def test_class_probabilities_may_change_from_round_to_round():
    changing = pipeline.index_stream(
        LABELS,
        sampler=np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
        batch_size=8,
        seed=0,
        num_classes=3,
        steps_per_round=2,
    )
    drawn = [set(LABELS[changing[step]].tolist()) for step in range(6)]
    assert drawn == [{0}, {0}, {2}, {2}, {2}, {2}]


def test_instance_balanced_sees_each_image_once_in_every_pass():
    drawn = np.concatenate([stream()[step] for step in range(15)])  # six passes of 60 images
    passes = drawn.reshape(6, 60)
    for one in passes:
        assert np.sort(one).tolist() == list(range(60))
    assert len({tuple(one.tolist()) for one in passes}) == 6


@pytest.mark.parametrize(
    ('sampler', 'expected'),
    [
        ('class_balanced', np.full(3, 1 / 3)),
        ('square_root', np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()),
    ],
)
def test_classes_are_drawn_by_their_probability_and_images_evenly(sampler, expected):
    drawn = np.concatenate([stream(sampler, batch_size=1000)[step] for step in range(20)])
    frequency = np.bincount(LABELS[drawn]) / len(drawn)
    np.testing.assert_allclose(frequency, expected, atol=0.015)  # four standard errors
    times = np.bincount(drawn, minlength=60)
    for k in range(3):
        mean = times[k == LABELS].mean()
        assert np.abs(times[k == LABELS] - mean).max() < 5 * np.sqrt(mean)


@pytest.mark.parametrize('batch_size', [24, 9, 3])
def test_balanced_blocks_have_every_class_alike_in_every_batch(batch_size):
    passes = 3 * 40 // batch_size  # batches in one pass over the largest class
    blocks = [stream('balanced_blocks', batch_size=batch_size)[step] for step in range(2 * passes)]
    for block in blocks:
        assert LABELS[block].tolist() == np.repeat(np.arange(3), batch_size // 3).tolist()
    for start in (0, passes):
        seen = np.bincount(np.concatenate(blocks[start : start + passes]), minlength=60)
        assert (
            seen[LABELS == 0] <= 1
        ).all()  # nothing is seen again before the rest, but for what is left over
        assert (seen[LABELS == 1] <= 3).all()
        assert seen.sum() == passes * batch_size
    first, second = (np.concatenate(blocks[i : i + passes]) for i in (0, passes))
    assert first.tolist() != second.tolist()


def test_balanced_blocks_pass_over_every_image_of_the_largest_class():
    drawn = np.concatenate([stream('balanced_blocks')[step] for step in range(5)])
    assert np.bincount(drawn)[LABELS == 0].tolist() == [1] * 40
    assert set(np.bincount(drawn)[LABELS == 1]) == {2, 3}
    assert set(np.bincount(drawn)[LABELS == 2]) == {10}


def test_balanced_blocks_know_nothing_of_classes_without_images():
    labels = np.array([0, 0, 0, 2, 2])
    blocks = pipeline.index_stream(
        labels, sampler='balanced_blocks', batch_size=2, seed=0, num_classes=4
    )
    assert [labels[blocks[step]].tolist() for step in range(6)] == [[0, 2]] * 6


@pytest.mark.parametrize(
    ('batch_size', 'devices', 'message'),
    [
        (8, 1, "it is 8, which 'balanced_blocks' cannot share evenly between 3 classes: use 9.$"),
        (2, 1, '2, which .* 3 classes: use 3.$'),
        (15, 8, '15, which .* 3 classes and 8 devices: use 24.$'),
        (123, 1, '123, but a pass of .* has 120 images, 3 times the largest class: use a smaller'),
    ],
)
def test_blocks_that_cannot_be_balanced_are_refused(batch_size, devices, message):
    with pytest.raises(UserError, match=message):
        pipeline.check_blocks(np.array(COUNTS), batch_size, 'it', devices=devices)
    if devices == 1:
        with pytest.raises(UserError, match='the batch size is'):
            stream('balanced_blocks', batch_size=batch_size)


@pytest.mark.parametrize('sampler', pipeline.SAMPLERS[1:])
def test_the_probabilities_of_a_sampler_are_those_it_draws_by(sampler):
    drawn = np.concatenate([stream(sampler, batch_size=120)[step] for step in range(80)])
    frequency = np.bincount(LABELS[drawn]) / len(drawn)
    probabilities = pipeline.probabilities(sampler, np.array(COUNTS))
    np.testing.assert_allclose(frequency, probabilities, atol=0.02)  # four standard errors


def test_an_unknown_sampler_is_refused():
    with pytest.raises(
        UserError, match="unknown sampler 'balanced': did you mean .*class_balanced"
    ):
        stream('balanced')


@pytest.mark.parametrize('devices', [1, 8])
def test_the_feed_gives_the_same_batch_resident_and_not(monkeypatch, devices):
    images = np.random.default_rng(1).integers(0, 256, (60, 5, 4, 1), np.uint8)
    mesh = sharding.make_mesh(jax.devices()[:devices])
    index = stream()[3]
    resident = pipeline.Feed(images, LABELS, mesh).batch(index)
    monkeypatch.setattr(pipeline, 'RESIDENT_BYTES', 0)
    streamed = pipeline.Feed(images, LABELS, mesh).batch(index)
    expected = {'index': index, 'label': LABELS[index], 'image': images[index]}
    for batch in (resident, streamed):
        assert set(batch) == set(expected)
        for name, values in expected.items():
            assert batch[name].dtype == values.dtype
            assert batch[name].tolist() == values.tolist()
            assert len(batch[name].sharding.device_set) == devices
            assert batch[name].addressable_shards[0].data.shape[0] == BATCH // devices
    without = pipeline.Feed(images, LABELS, mesh).batch(index, with_images=False)
    assert set(without) == {'index', 'label'}
    assert without['label'].tolist() == LABELS[index].tolist()


@pytest.mark.parametrize('sampler', pipeline.SAMPLERS)
@pytest.mark.parametrize('read_ahead', [1, 2, 4])
def test_batches_come_in_order_however_many_are_read_ahead(monkeypatch, sampler, read_ahead):
    images = np.random.default_rng(1).integers(0, 256, (60, 5, 4, 1), np.uint8)
    mesh = sharding.make_mesh(jax.devices()[:2])
    monkeypatch.setattr(pipeline, 'RESIDENT_BYTES', 0)
    monkeypatch.setattr(pipeline, 'READ_AHEAD', read_ahead)
    feed = pipeline.Feed(images, LABELS, mesh)
    expected = [stream(sampler)[step].tolist() for step in range(20)]
    for start in (0, 7):  # from the beginning, and resumed
        batches = list(feed.batches(stream(sampler), start, 20))
        assert [batch['index'].tolist() for batch in batches] == expected[start:]
        for batch in batches:
            assert batch['image'].tolist() == images[np.asarray(batch['index'])].tolist()
            assert len(batch['image'].sharding.device_set) == 2
    only_labels = list(feed.batches(stream(sampler), 7, 9, with_images=False))
    assert [set(batch) for batch in only_labels] == [{'index', 'label'}] * 2


class Recording:
    """Images that note which rows were read, and by which threads."""

    def __init__(self, images):
        self.images, self.nbytes, self.rows, self.threads = images, 1 << 60, [], set()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.rows.append(index.tolist())
        self.threads.add(threading.current_thread())
        return self.images[index]


def test_every_round_is_read_by_the_same_threads():
    images = Recording(np.zeros((60, 5, 4, 1), np.uint8))
    feed = pipeline.Feed(images, LABELS, sharding.make_mesh(jax.devices()[:1]))
    for round_ in range(4):
        assert len(list(feed.batches(stream(), 5 * round_, 5 * round_ + 5))) == 5
    assert len(images.rows) == 20
    assert len(images.threads) <= pipeline.MOST_AHEAD


@pytest.mark.parametrize(('allowed', 'most'), [(1 << 30, 5), (0, 2), (4 * 60 * 20, 4)])
def test_more_is_read_ahead_where_steps_wait_within_limits(monkeypatch, allowed, most):
    """A batch of all 60 images has 60 x 20 bytes."""
    monkeypatch.setattr(pipeline, 'MOST_AHEAD', 5)
    monkeypatch.setattr(pipeline, 'AHEAD_BYTES', allowed)
    images = Recording(np.zeros((60, 5, 4, 1), np.uint8))
    feed = pipeline.Feed(images, LABELS, sharding.make_mesh(jax.devices()[:1]))
    images.nbytes = 60 * 20
    fetched = feed._read

    def slow(*arguments):
        time.sleep(0.01)  # the steps of this test take no time at all
        return fetched(*arguments)

    monkeypatch.setattr(feed, '_read', slow)
    assert len(list(feed.batches(stream(batch_size=60), 0, 60))) == 60
    assert feed._ahead == most


def test_batches_left_unread_do_no_harm():
    images = Recording(np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1))
    feed = pipeline.Feed(images, LABELS, sharding.make_mesh(jax.devices()[:1]))
    first = next(feed.batches(stream(), 0, 50))
    again = next(feed.batches(stream(), 0, 50))
    np.testing.assert_array_equal(first['image'], again['image'])
    assert len(images.rows) < 50


def test_a_process_reads_what_lies_on_its_own_devices_and_nothing_else(monkeypatch):
    images = Recording(np.random.default_rng(1).integers(0, 256, (60, 5, 4, 1), np.uint8))
    own = np.array([2, 3, 6, 7])  # say, of two processes with four devices that take turns
    monkeypatch.setattr(sharding, 'process_rows', lambda *_: own)
    feed = pipeline.Feed(images, LABELS, sharding.make_mesh(jax.devices()[:1]))
    batches = list(feed.batches(stream(), 0, 5))
    expected = [stream()[step][own].tolist() for step in range(5)]
    assert sorted(images.rows) == sorted(expected)  # two threads read: which is first, nothing says
    assert [batch['index'].tolist() for batch in batches] == expected
    for batch in batches:
        assert batch['label'].tolist() == LABELS[np.asarray(batch['index'])].tolist()


# Images drawn each by its own probability.


def drawn(weights, steps=200, seed=0):
    made = pipeline.drawn_stream(np.asarray(weights), batch_size=8, seed=seed)
    return np.concatenate([made[step] for step in range(steps)])


def test_images_are_drawn_in_proportion_to_their_weights():
    weights = np.array([0.0, 3.0, 0.0, 1.0, 0.0], np.float32)
    found = np.bincount(drawn(weights), minlength=5) / 1600
    assert found[[0, 2, 4]].tolist() == [0, 0, 0]
    assert found[1] == pytest.approx(0.75, abs=0.04)  # nearly four standard deviations
    assert drawn(weights).tolist() == drawn(weights * 8).tolist()


def test_a_drawn_batch_depends_on_weights_seed_and_step_alone():
    made = pipeline.drawn_stream(np.ones(60), batch_size=8, seed=0)
    forwards = np.stack([made[step] for step in range(20)])
    backwards = np.stack([made[step] for step in reversed(range(20))])
    assert np.array_equal(forwards, backwards[::-1])
    assert made[1_000_000].dtype == np.int32
    assert not np.array_equal(drawn(np.ones(60), 20, seed=1), forwards.ravel())


@pytest.mark.parametrize('weights', [[1.0, -1.0], [0.0, 0.0], [1.0, np.nan], [1.0, np.inf]])
def test_weights_that_are_no_probabilities_are_refused(weights):
    with pytest.raises(ValueError, match='finite, 0 or more, and not all 0'):
        drawn(weights)
