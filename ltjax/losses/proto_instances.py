"""Proto-instances and the proto-loss: contrast with a queue made harder by prototypes (ProCo).

An anchor is a unit vector g = G(x), s are the entries of the queue and p_c the prototypes of
`prototypes`. Slots of the queue that were never filled are masked: with an empty queue the
proto-loss contrasts the classes alone. No training code was released: where the equations leave
something open it is our reading.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import (
    ANY_LABEL,
    at_least_float32,
    checked_floats,
    checked_labels,
    keep_examples,
)
from ltjax.losses.queues import Queue
from ltjax.losses.relation import normalise_rows

_HIGHEST = jax.lax.Precision.HIGHEST


class ProtoInstances(NamedTuple):
    """Adversarial proto-instances of a batch.

    Attributes:
      negatives: [batch, gamma, D] unit vectors.
      negative_mask: [batch, gamma] bool, False where the queue had fewer negatives.
      positives: [M, D] unit vectors, one for each slot of the queue.
      positive_mask: [batch, M] bool, which of them are positives of which anchor.
    """

    negatives: jax.Array
    negative_mask: jax.Array
    positives: jax.Array
    positive_mask: jax.Array


def hard_negatives(
    embeddings: ArrayLike,
    labels: ArrayLike,
    queue: Queue,
    *,
    num_negatives: int,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The entries of other classes that are nearest to each anchor, by d = 1 - cos(g, s).

    Args:
      embeddings: [batch, D] G(x).
      labels: [batch] int, classes from 0.
      queue: of M slots.
      num_negatives: gamma <= M, static.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      Slots [batch, gamma] int32 and their distances [batch, gamma], ascending, without gradient;
      the distance is infinite, and the slot means nothing, where there are fewer negatives.

    Raises:
      ValueError: another dtype or shape, or gamma > M.

    Source: Yang et al. (ProCo), MICCAI 2022, equations 1 and 2.

    >>> queue = Queue(jnp.eye(2), jnp.array([0, 1]), jnp.ones(2, bool), jnp.array(0))
    >>> slots, distances = hard_negatives(
    ...     jnp.array([[3.0, 0.0]]), jnp.array([1]), queue, num_negatives=2
    ... )
    >>> int(slots[0, 0]), distances.tolist()
    (0, [[0.0, inf]])
    """
    size, width = queue.features.shape
    if num_negatives > size:
        raise ValueError(f'num_negatives must not exceed the {size} slots, got {num_negatives}')
    embeddings = checked_floats(embeddings, (None, width), name='embeddings', where=where)
    labels = checked_labels(labels, (len(embeddings), ANY_LABEL), where=where)
    cosines = jnp.matmul(
        normalise_rows(embeddings), normalise_rows(queue.features).T, precision=_HIGHEST
    )
    negative = _in_queue(labels[:, None] != queue.labels[None, :], queue, where)
    distances = jnp.where(negative, 1 - jax.lax.stop_gradient(cosines), jnp.inf)
    nearness, slots = jax.lax.top_k(-distances, num_negatives)
    return slots, -nearness


def nearest_prototype(embeddings: ArrayLike, prototypes: ArrayLike) -> jax.Array:
    """The class that raw prototypes give a vector, argmax_c s . p_c.

    Args:
      embeddings: [n, D].
      prototypes: [K, D], not recalibrated.

    Returns:
      [n] int32.

    Source: Yang et al. (ProCo), MICCAI 2022, section 3.1, "misclassified".

    >>> nearest_prototype(jnp.array([[0.0, 1.0]]), jnp.eye(2)).tolist()
    [1]
    """
    embeddings = at_least_float32(embeddings)
    products = jnp.matmul(embeddings, jnp.asarray(prototypes).T, precision=_HIGHEST)
    return products.argmax(axis=1).astype(jnp.int32)


def mix_with_prototypes(
    embeddings: ArrayLike, prototypes: ArrayLike, epsilon: ArrayLike
) -> jax.Array:
    """Proto-instances, (1 - eps) s + eps p, scaled to unit length.

    Args:
      embeddings: [..., D] s.
      prototypes: [..., D] p, a row for each s.
      epsilon: [...] from 0 to E, or a scalar.

    Returns:
      [..., D].

    Source: Yang et al. (ProCo), MICCAI 2022, equation 3.

    >>> mix_with_prototypes(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 2.0]]), 0.0).tolist()
    [[1.0, 0.0]]
    """
    embeddings = at_least_float32(embeddings)
    weight = jnp.broadcast_to(jnp.asarray(epsilon, embeddings.dtype), embeddings.shape[:-1])
    mixed = (1 - weight)[..., None] * embeddings + weight[..., None] * jnp.asarray(prototypes)
    return normalise_rows(mixed.reshape(-1, mixed.shape[-1])).reshape(mixed.shape)


def adversarial_instances(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    queue: Queue,
    prototypes: ArrayLike,
    num_negatives: int = 20,
    negative_epsilon: ArrayLike,
    positive_epsilon: ArrayLike,
    through_prototypes: bool = False,
    where: ArrayLike | None = None,
) -> ProtoInstances:
    """Adversarial proto-instances: the hard entries of the queue, moved towards a prototype.

    Negatives are the anchor's `hard_negatives`, moved towards the prototype of its own class;
    positives the entries of its class whose `nearest_prototype` is another, moved towards that one.

    Args:
      embeddings: [batch, D] G(x).
      labels: [batch] int, classes from 0.
      queue: of M slots.
      prototypes: [K, D], not recalibrated.
      num_negatives: gamma <= M, static.
      negative_epsilon: [batch, gamma] mixing weights, or a scalar, drawn uniformly from 0 to E,
        which is 0.4 in the paper.
      positive_epsilon: [M] mixing weights, or a scalar, drawn likewise.
      through_prototypes: whether gradients reach the prototypes through the mixing.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      The instances, constants but for `through_prototypes`.

    Raises:
      ValueError: another dtype or shape, or gamma > M.

    Source: Yang et al. (ProCo), MICCAI 2022, section 3.1.

    Reading: no code was released. The proto-instances are constants by default, as the entries of
    the queue are.

    >>> queue = Queue(jnp.eye(2), jnp.array([0, 1]), jnp.ones(2, bool), jnp.array(0))
    >>> instances = adversarial_instances(
    ...     jnp.array([[1.0, 0.0]]), jnp.array([1]), queue=queue, prototypes=jnp.ones([2, 2]),
    ...     num_negatives=1, negative_epsilon=0.0, positive_epsilon=0.0
    ... )
    >>> instances.negatives.tolist(), instances.positive_mask.tolist()
    ([[[1.0, 0.0]]], [[False, True]])
    """
    prototypes = checked_floats(prototypes, (None, queue.features.shape[1]), name='prototypes')
    slots, distances = hard_negatives(
        embeddings, labels, queue, num_negatives=num_negatives, where=where
    )
    labels = checked_labels(labels, (len(slots), len(prototypes)), where=where)
    if not through_prototypes:
        prototypes = jax.lax.stop_gradient(prototypes)
    own = jnp.broadcast_to(prototypes[labels][:, None, :], (*slots.shape, prototypes.shape[1]))
    predicted = nearest_prototype(queue.features, prototypes)
    misclassified = (labels[:, None] == queue.labels[None, :]) & (predicted != queue.labels)[
        None, :
    ]
    return ProtoInstances(
        mix_with_prototypes(queue.features[slots], own, negative_epsilon),
        jnp.isfinite(distances),
        mix_with_prototypes(queue.features, prototypes[predicted], positive_epsilon),
        _in_queue(misclassified, queue, where),
    )


def proto_log_sums(
    logits: ArrayLike,
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    queue: Queue,
    instances: ProtoInstances | None = None,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Logarithms of the two sums of the proto-loss, over negatives and over positives.

    LN = log(sum e^{g.s} over H- + sum_{c != y} e^{z_c}), LP = log(sum e^{-g.s} over H+ + e^{-z_y}),
    where H- are the entries of other classes and the negative proto-instances, H+ those of the
    anchor's class and the positive ones.

    Args and errors are those of `proto_loss`.

    Returns:
      LN [batch] and LP [batch].

    Source: Yang et al. (ProCo), MICCAI 2022, equation 7.

    >>> from ltjax.losses.queues import empty_queue
    >>> negative, positive = proto_log_sums(
    ...     jnp.array([[1.0, 2.0]]), jnp.ones([1, 3]), jnp.array([0]), queue=empty_queue(4, 3)
    ... )
    >>> float(negative[0]), float(positive[0])
    (2.0, -1.0)
    """
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    batch, num_classes = logits.shape
    if num_classes < 2:
        raise ValueError(f'logits must have at least two classes, got {num_classes}')
    width = queue.features.shape[1]
    embeddings = checked_floats(embeddings, (batch, width), name='embeddings', where=where)
    labels = checked_labels(labels, logits.shape, where=where)
    own_class = labels[:, None] == jnp.arange(num_classes)[None, :]
    same = labels[:, None] == queue.labels[None, :]
    products = jnp.matmul(embeddings, queue.features.T, precision=_HIGHEST)
    negatives = [(logits, ~own_class), (products, _in_queue(~same, queue, where))]
    positives = [(-logits, own_class), (-products, _in_queue(same, queue, where))]
    if instances is not None:
        to_negatives = jnp.einsum('bd,bnd->bn', embeddings, instances.negatives, precision=_HIGHEST)
        to_positives = jnp.matmul(embeddings, instances.positives.T, precision=_HIGHEST)
        negatives.append((to_negatives, instances.negative_mask))
        positives.append((-to_positives, instances.positive_mask))
    return _log_sum(negatives), _log_sum(positives)


def proto_loss(
    logits: ArrayLike,
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    queue: Queue,
    instances: ProtoInstances | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Proto-loss, log(1 + e^LN e^LP) = softplus(LN + LP), without a temperature.

    LN and LP are those of `proto_log_sums`: every negative is to be farther than every positive,
    and class logits are among both.

    Args:
      logits: [batch, K] of the prototypes, K >= 2, see `prototypes.prototype_logits`.
      embeddings: [batch, D] unit vectors G(x).
      labels: [batch] int, classes from 0.
      queue: of unit vectors, as it was before the keys of this batch were pushed; a constant if its
        features carry no gradient. An empty one leaves log(1 + sum_{c != y} e^{z_c - z_y}), the
        cross-entropy.
      instances: see `adversarial_instances`; None leaves them out.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: another dtype or shape, or fewer than two classes.

    Source: Yang et al. (ProCo), MICCAI 2022, equation 7.

    Reading: no code was released.

    >>> from ltjax.losses.queues import empty_queue
    >>> values = proto_loss(
    ...     jnp.zeros([1, 2]), jnp.ones([1, 3]), jnp.array([0]), queue=empty_queue(4, 3)
    ... )
    >>> round(float(values[0]), 4)
    0.6931
    """
    negative, positive = proto_log_sums(
        logits, embeddings, labels, queue=queue, instances=instances, where=where
    )
    return keep_examples(jax.nn.softplus(negative + positive), where)


def _in_queue(mask: jax.Array, queue: Queue, where: ArrayLike | None) -> jax.Array:
    """[batch, M] the mask without unfilled slots and masked anchors."""
    return keep_examples(mask & queue.filled[None, :], where)


def _log_sum(terms: list[tuple[jax.Array, jax.Array]]) -> jax.Array:
    """[batch] log of the sum of e^v over pairs of values and masks [batch, any]."""
    values, masks = (jnp.concatenate(arrays, axis=1) for arrays in zip(*terms, strict=True))
    return jax.nn.logsumexp(values, axis=1, where=masks)
