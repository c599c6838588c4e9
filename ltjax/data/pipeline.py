"""Streams of batches, addressable by step: which images a step sees depends on the seed and the step alone."""

import collections
import concurrent.futures
import dataclasses
import functools
import math
from collections.abc import Iterator

import grain
import jax
import numpy as np

from ltjax import sharding
from ltjax.data import parallel
from ltjax.data.reading import Images
from ltjax.errors import UserError, unknown
from ltjax.losses import class_probabilities, samplers

BLOCKS = 'balanced_blocks'

# 'instance_balanced' shows every image equally often, BLOCKS every class in every batch; the others are class
# probabilities from `losses`.
SAMPLERS = (
    'instance_balanced',
    'class_balanced',
    'square_root',
    'inverse_frequency',
    'effective_number_balanced',
    'gcl_balanced',
    'bmix_cbrt',
    BLOCKS,
)

# Sets up to this size are copied to the device once and gathered there; larger ones are gathered on the host.
RESIDENT_BYTES = 1 << 30

Resident = tuple[jax.Array | None, jax.Array]

# Batches that are read before they are asked for: at first, and at most where steps had to wait for them.
READ_AHEAD = 2
MOST_AHEAD = max(READ_AHEAD, parallel.processors())

# What they may take in memory, unless those at first are larger.
AHEAD_BYTES = 1 << 30

# Steps of a stream without an end.
ENDLESS = 1 << 40


def index_stream(
    labels: np.ndarray,
    *,
    sampler: str | np.ndarray,
    batch_size: int,
    seed: int,
    num_classes: int,
    steps_per_round: int = 1,
) -> grain.MapDataset:
    """Returns batches of positions in `labels`, int32 [batch_size], addressed by step.

    'instance_balanced' passes over all images in a new order each epoch; batches run across the seam of two epochs, so
    that every image is seen equally often. 'balanced_blocks' has equally many images of each class in every batch,
    class by class, and passes over the images of a class in a new order each time that the largest class is passed
    over (Marrakchi et al., 2021); classes without images have no part in it. All else draws a class by its
    probability, then an image of it, both with replacement (Kang et al., 2020, eq. 1).

    Args:
      labels: int [N] of the images to draw from.
      sampler: one of SAMPLERS, or class probabilities: [K], or [rounds, K] where they change from round to round.
      batch_size: positions a step.
      seed: of the order.
      num_classes: K.
      steps_per_round: where the probabilities change; those of the last round stay.

    Raises:
      UserError: there is no such sampler, or the classes cannot share a batch evenly.
    """
    if isinstance(sampler, str) and sampler not in SAMPLERS:
        raise unknown('sampler', sampler, SAMPLERS)
    if isinstance(sampler, str) and sampler == 'instance_balanced':
        return _passes(len(labels), batch_size, seed)
    counts = np.bincount(labels, minlength=num_classes)
    by_class = np.argsort(labels, kind='stable').astype(np.int32)
    if isinstance(sampler, str) and sampler == BLOCKS:
        check_blocks(counts, batch_size, 'the batch size')
        return _blocks(by_class, counts[counts > 0], batch_size, seed)
    by_round = np.atleast_2d(
        probabilities(sampler, counts) if isinstance(sampler, str) else sampler
    )
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])

    def draw(step: int, rng: np.random.Generator) -> np.ndarray:
        round_ = min(step // steps_per_round, len(by_round) - 1)
        classes = rng.choice(num_classes, size=batch_size, p=by_round[round_])
        return by_class[starts[classes] + rng.integers(counts[classes])]

    return grain.MapDataset.range(ENDLESS).seed(seed).random_map(draw)


def _passes(images: int, batch_size: int, seed: int) -> grain.MapDataset:
    """Returns the batches of 'instance_balanced'.

    A pass's order is drawn at once. Grain's own shuffle passes each position by itself through all its layers: two
    milliseconds a batch of 128, in which an accelerator makes a small network's step.
    """

    # The pass that is read, and the next, which a batch may reach into.
    @functools.lru_cache(maxsize=2)
    def one_pass(number: int) -> np.ndarray:
        order = np.random.default_rng((seed, number)).permutation(images)
        return order.astype(np.int32)

    def batch(step: int) -> np.ndarray:
        passes, at = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), images)
        return np.concatenate([one_pass(int(n))[at[passes == n]] for n in np.unique(passes)])

    return grain.MapDataset.range(ENDLESS).map(batch)


def _blocks(
    by_class: np.ndarray, counts: np.ndarray, batch_size: int, seed: int
) -> grain.MapDataset:
    """Returns the batches of 'balanced_blocks'.

    Args:
      by_class: int32 [N], positions sorted by class.
      counts: [K] images of each class, none of them 0.
      batch_size: a multiple of K.
      seed: of the orders.
    """
    num_classes, largest = len(counts), int(counts.max())
    batches = num_classes * largest // batch_size

    @functools.lru_cache(maxsize=2)  # the pass that is read, and the next, which is read ahead
    def one_pass(number: int) -> np.ndarray:
        orders = np.tile(np.arange(largest), (num_classes, 1))
        orders = np.random.default_rng((seed, number)).permuted(orders, axis=1)
        blocks = samplers.balanced_blocks(counts, batch_size=batch_size, permutations=orders)
        return by_class[blocks.reshape(batches, batch_size)]

    def batch(step: int) -> np.ndarray:
        return one_pass(int(step) // batches)[step % batches]

    return grain.MapDataset.range(ENDLESS).map(batch)


def probabilities(sampler: str, counts: np.ndarray) -> np.ndarray:
    """Returns the class probabilities [K] by which a named sampler draws from classes with `counts` [K] images."""
    name = 'class_balanced' if sampler == BLOCKS else sampler
    drawn: np.ndarray = getattr(class_probabilities, name)(counts)
    return drawn


def check_blocks(counts: np.ndarray, batch_size: int, what: str, *, devices: int = 1) -> None:
    """Checks that 'balanced_blocks' can make batches of that size.

    Args:
      counts: [K] images of each class.
      batch_size: images in a batch.
      what: it is, for messages.
      devices: that share a batch too.

    Raises:
      UserError: the classes cannot share it evenly, or a pass over the largest class does not fill it.
    """
    present = int((counts > 0).sum())
    share, images = math.lcm(present, devices), present * int(counts.max())
    shared = f'{present} classes' + (f' and {devices} devices' if devices > 1 else '')
    if batch_size % share:
        raise UserError(
            f"{what} is {batch_size}, which 'balanced_blocks' cannot share evenly between {shared}: "
            f'use {max(1, round(batch_size / share)) * share}.'
        )
    if batch_size > images:
        raise UserError(
            f"{what} is {batch_size}, but a pass of 'balanced_blocks' has {images} images, {present} times the largest "
            f'class: use a smaller batch.'
        )


def drawn_stream(probabilities: np.ndarray, *, batch_size: int, seed: int) -> grain.MapDataset:
    """Returns batches of positions, int32 [batch_size], addressed by step, each drawn by its own probability.

    Args:
      probabilities: [N] of the images, or what they are in proportion to; an image of 0 is never drawn.
      batch_size: positions a step, drawn with replacement.
      seed: of the draws: with the step and the probabilities it decides them.

    Raises:
      ValueError: a probability is negative or not finite, or all are 0.
    """
    weights = np.asarray(probabilities, np.float64)
    reached = np.cumsum(weights)
    if not (weights >= 0).all() or not 0 < reached[-1] < np.inf:
        raise ValueError('probabilities of images must be finite, 0 or more, and not all 0')
    reached /= reached[-1]

    def draw(step: int, rng: np.random.Generator) -> np.ndarray:
        return np.searchsorted(reached, rng.random(batch_size), side='right').astype(np.int32)

    return grain.MapDataset.range(ENDLESS).seed(seed).random_map(draw)


@dataclasses.dataclass
class Feed:
    """Brings the images of given positions to the devices, the batch split over them."""

    images: Images  # uint8 [N, H, W, C], in memory or on disk
    labels: np.ndarray  # int32 [N]
    mesh: jax.sharding.Mesh  # the devices, of all processes; a process reads what lies on its own

    def __post_init__(self) -> None:
        # The same threads for every round: memory that new ones allocate stays behind when they end.
        self._readers = concurrent.futures.ThreadPoolExecutor(max(READ_AHEAD, MOST_AHEAD))
        self._ahead = READ_AHEAD
        images = self.images[:] if self.images.nbytes <= RESIDENT_BYTES else None
        # Images and labels, whole on every device; of images that are too large for that, None.
        self.resident: Resident = sharding.replicate((images, self.labels), self.mesh)
        self._gather = jax.jit(gather, out_shardings=sharding.batch_sharding(self.mesh))

    def batch(self, index: np.ndarray, *, with_images: bool = True) -> dict[str, jax.Array]:
        """Returns {'index': int32 [B], 'label': int32 [B], 'image': uint8 [B, H, W, C]} on the device."""
        if with_images and self.resident[0] is not None:
            own = index[sharding.process_rows(len(index), self.mesh)]
            whole = sharding.put_batch(own, self.mesh, len(index))
            return self._gather(self.resident, whole)
        return sharding.put_batch(self._fetch(index, with_images), self.mesh, len(index))

    def batches(
        self, stream: grain.MapDataset, start: int, stop: int, *, with_images: bool = True
    ) -> Iterator[dict[str, jax.Array]]:
        """Yields the batches of the steps from `start` to before `stop`.

        Where images come from the host or the disk, the next ones are read while a step runs: more of them, each time
        that a step has to wait for its own, up to `MOST_AHEAD` and `AHEAD_BYTES`. Their order does not depend on it.
        """
        if self.resident[0] is not None or not with_images:
            for step in range(start, stop):
                yield self.batch(stream[step], with_images=with_images)
            return
        batch_size = len(stream[start])
        ahead: collections.deque[concurrent.futures.Future[dict[str, np.ndarray]]] = (
            collections.deque()
        )
        rows = len(sharding.process_rows(batch_size, self.mesh))
        bytes_each = rows * self.images.nbytes // max(1, len(self.images))
        most = max(READ_AHEAD, min(MOST_AHEAD, AHEAD_BYTES // max(1, bytes_each)))
        for step in range(start, stop):
            for each in range(step + len(ahead), min(step + self._ahead, stop)):
                ahead.append(self._readers.submit(self._read, stream, each))
            if not ahead[0].done() and step > start:
                self._ahead = min(self._ahead + 1, most)
            yield sharding.put_batch(ahead.popleft().result(), self.mesh, batch_size)

    def _read(self, stream: grain.MapDataset, step: int) -> dict[str, np.ndarray]:
        return self._fetch(stream[step], with_images=True)

    def _fetch(self, index: np.ndarray, with_images: bool) -> dict[str, np.ndarray]:
        """Reads what lies on the devices of this process, and nothing of what lies on others'."""
        index = index[sharding.process_rows(len(index), self.mesh)]
        batch = {'index': index, 'label': self.labels[index]}
        return batch | {'image': self.images[index]} if with_images else batch


def gather(
    resident: Resident, index: jax.Array, *, with_images: bool = True
) -> dict[str, jax.Array]:
    """Returns what `Feed.batch` does, inside a jitted function, from what lies on the devices."""
    images, labels = resident
    batch = {'index': index, 'label': labels[index]}
    return batch | {'image': images[index]} if with_images and images is not None else batch
