"""First-in, first-out queue of labelled features: the memory of MoCo, PaCo and ProCo."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from ltjax.losses._arrays import ANY_LABEL, checked_floats, checked_labels
from ltjax.losses._contrast import counted_rows


class Queue(NamedTuple):
    """The last M features that were pushed.

    Attributes:
      features: [M, D]; 0 in slots that were never filled.
      labels: [M] int32; 0 in such slots.
      filled: [M] bool, False for such slots: the mask of every loss that reads the queue.
      pointer: scalar int32, the slot that the next feature goes to.
    """

    features: jax.Array
    labels: jax.Array
    filled: jax.Array
    pointer: jax.Array


def empty_queue(size: int, width: int, dtype: DTypeLike = jnp.float32) -> Queue:
    """A queue of M slots, none of them filled.

    Args:
      size: M.
      width: D.
      dtype: of the features.

    Returns:
      The queue. The released codes of MoCo and ProCo start with random features, which a loss
      cannot tell from real ones; here they are masked.

    >>> queue = empty_queue(4, 2)
    >>> queue.features.shape, int(queue.filled.sum())
    ((4, 2), 0)
    """
    return Queue(
        jnp.zeros((size, width), dtype),
        jnp.zeros(size, jnp.int32),
        jnp.zeros(size, bool),
        jnp.zeros((), jnp.int32),
    )


def push(
    queue: Queue, features: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> Queue:
    """Overwrites the oldest features by a batch: slots pointer, pointer + 1, ... modulo M.

    Pure and jittable. A loss reads the queue before the keys of its own step are pushed.

    Args:
      queue: before.
      features: [B, D] with B <= M; M need not be a multiple of B.
      labels: [B] int, classes from 0.
      where: [B] bool, True for the features to push; None pushes all.

    Returns:
      The queue after, in the dtypes of the one before, without gradient.

    Raises:
      ValueError: another dtype or width, or a batch larger than the queue.

    Source: He et al., "Momentum contrast for unsupervised visual representation learning" (MoCo),
    CVPR 2020, section 3.2, with a label for each feature as in the released code of PaCo and ProCo.

    >>> queue = push(empty_queue(3, 1), jnp.array([[5.0], [6.0]]), jnp.array([0, 1]))
    >>> queue = push(queue, jnp.array([[7.0], [8.0]]), jnp.array([2, 3]))
    >>> queue.features[:, 0].tolist(), queue.labels.tolist(), int(queue.pointer)
    ([8.0, 6.0, 7.0], [3, 1, 2], 1)
    """
    size, width = queue.features.shape
    features = checked_floats(features, (None, width), name='features', where=where)
    batch = len(features)
    if batch > size:
        raise ValueError(f'features must not be more than the {size} slots, got {batch}')
    labels = checked_labels(labels, (batch, ANY_LABEL), where=where)
    pushed = counted_rows(where, batch, 'where')
    rank = jnp.cumsum(pushed, dtype=jnp.int32) - 1
    # The slot M does not exist: what goes there is dropped.
    slots = jnp.where(pushed, (queue.pointer + rank) % size, size)
    features = jax.lax.stop_gradient(features).astype(queue.features.dtype)
    return Queue(
        queue.features.at[slots].set(features, mode='drop'),
        queue.labels.at[slots].set(labels.astype(queue.labels.dtype), mode='drop'),
        queue.filled.at[slots].set(True, mode='drop'),
        (queue.pointer + pushed.sum(dtype=jnp.int32)) % size,
    )
