"""OLTR: features enriched from a memory of class centroids, and the loss that moves the centroids."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import checked_floats, checked_labels, keep_examples
from ltjax.losses.heads import lengths, linear_logits, unit_vectors
from ltjax.losses.reduce import mean


class MemoryLayers(NamedTuple):
    """The two linear layers that read the memory.

    Attributes:
      hallucinator_weight: [K, D], from features to a mixture of centroids.
      hallucinator_bias: [K].
      selector_weight: [D, D], from features to how much of each channel to take.
      selector_bias: [D].
    """

    hallucinator_weight: ArrayLike
    hallucinator_bias: ArrayLike
    selector_weight: ArrayLike
    selector_bias: ArrayLike


def memory_embedding(
    features: ArrayLike, centroids: ArrayLike, layers: MemoryLayers, *, reach: float = 10.0
) -> jax.Array:
    """Dynamic meta-embedding, v = (reach / d) (x + e * m).

    m = softmax(H x + h) C is the memory feature, e = tanh(S x + s) selects its channels and d =
    min_k |x - c_k| is large for features unlike all classes.

    Args:
      features: [batch, D], x.
      centroids: [K, D], C.
      layers: H, h, S and s.
      reach: scale of the distances.

    Returns:
      [batch, D], for `squashed_cosine_logits`.

    Source: Liu et al., "Large-scale long-tailed recognition in an open world", CVPR 2019, section
    3.

    Reading: a feature on a centroid would be divided by 0, so d is at least 1e-6. At that size the
    direction no longer changes, and the logits keep only the direction.

    >>> layers = MemoryLayers(jnp.zeros([1, 2]), jnp.zeros(1), jnp.zeros([2, 2]), jnp.zeros(2))
    >>> memory_embedding(jnp.array([[0.0, 2.0]]), jnp.zeros([1, 2]), layers).tolist()
    [[0.0, 10.0]]
    """
    features = checked_floats(features, (None, None), name='features')
    centroids = checked_floats(centroids, (None, features.shape[1]), name='centroids')
    mixture = linear_logits(features, layers.hallucinator_weight, layers.hallucinator_bias)
    memory = linear_logits(jax.nn.softmax(mixture), centroids.T)
    selector = jnp.tanh(linear_logits(features, layers.selector_weight, layers.selector_bias))
    distances = lengths(features[:, None, :] - centroids[None, :, :])
    nearest = jnp.maximum(distances.min(axis=1), 1e-6)
    return reach / nearest * (features + selector * memory)


def squashed_cosine_logits(
    embedding: ArrayLike, weight: ArrayLike, *, scale: float = 16.0
) -> jax.Array:
    """Cosine classifier that keeps some of the length, scale v / (1 + |v|) . w_k / |w_k|.

    Args:
      embedding: [batch, D], v.
      weight: [K, D].
      scale: bound of the logits.

    Returns:
      Logits [batch, K].

    Source: Liu et al., CVPR 2019, section 3, in the form of its released code: |v|^2 / (1 + |v|^2)
    became |v| / (1 + |v|).

    >>> squashed_cosine_logits(jnp.array([[3.0]]), jnp.array([[2.0]])).tolist()
    [[12.0]]
    """
    embedding = checked_floats(embedding, (None, None), name='embedding')
    squashed = embedding / (1 + lengths(embedding))
    return scale * linear_logits(squashed, unit_vectors(weight))


def centroid_loss(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    centroids: ArrayLike,
    margin: float = 10.0,
    repel_weight: float = 0.01,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Discriminative centroid loss, |x_i - c_y|^2 / 2 + repel_weight max(0, margin - r).

    r = (sum over i and k != y_i of |x_i - c_k|^2) / (B K) is the mean over the batch of squared
    distances to other classes: a set loss.

    Args:
      features: [B, D].
      labels: [B] int, classes from 0.
      centroids: [K, D]; they are moved by the gradient too, see Reading.
      margin: r above it repels no more.
      repel_weight: of the repulsion.
      where: [B] bool, True for the examples that count; None counts all.

    Returns:
      [B], each example's attraction plus the repulsion of the whole batch, so that the mean is the
      published loss; 0 with zero gradient for a masked example.

    Source: Liu et al., CVPR 2019, section 3, whose released code multiplies the loss by another
    0.01.

    Reading: as in the released code the gradient that moves a centroid by attraction is that of its
    mean, sum_i (c - x_i) / (1 + n) / B over its n features in the batch, and not the derivative;
    the gradients of the features and of the repulsion are the derivatives.

    >>> features, centroids = jnp.array([[1.0], [3.0]]), jnp.array([[0.0], [3.0]])
    >>> values = centroid_loss(features, jnp.array([0, 1]), centroids=centroids)
    >>> [round(float(value), 4) for value in values]
    [0.5675, 0.0675]
    """
    features = checked_floats(features, (None, None), name='features', where=where)
    centroids = checked_floats(centroids, (None, features.shape[1]), name='centroids')
    num_classes = len(centroids)
    labels = checked_labels(labels, (len(features), num_classes), where=where)
    own = keep_examples(jax.nn.one_hot(labels, num_classes, dtype=features.dtype), where)
    constant = jax.lax.stop_gradient

    def attraction(features: jax.Array, centroids: jax.Array) -> jax.Array:
        return jnp.square(features - centroids[labels]).sum(axis=1) / 2

    # A term of value 0 that carries the gradient of the centroids.
    pull = attraction(constant(features), centroids) / (1 + own.sum(axis=0)[labels])
    attracted = attraction(features, constant(centroids)) + pull - constant(pull)

    distances = jnp.square(features[:, None, :] - centroids[None, :, :]).sum(axis=2)
    others = mean(((1 - own) * distances).sum(axis=1), where) / num_classes
    repulsion = repel_weight * jnp.maximum(margin - others, 0)
    return keep_examples(attracted + repulsion, where)
