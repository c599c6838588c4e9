"""Class centroids of embeddings and the losses that contrast with them (ICCL).

Centroids are running averages, constants of every loss: read them first, update them after.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import check_positive, checked_floats, checked_labels, keep_examples
from ltjax.losses.classification import softmax_cross_entropy
from ltjax.losses.mixing import interpolated_cross_entropy

_HIGHEST = jax.lax.Precision.HIGHEST


def update_centroids(
    centroids: ArrayLike,
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    momentum: ArrayLike = 0.99,
    rule: Literal['sequential', 'mean', 'sum', 'printed'] = 'sequential',
    where: ArrayLike | None = None,
) -> jax.Array:
    """Moves the centroid of each class towards the batch's embeddings of that class.

    sequential: c_k <- m c_k + (1 - m) z_i for the embeddings of class k in batch order, in closed
    form c_k <- m^n c_k + (1 - m) sum_j m^(n-1-j) z_j; mean and sum: c_k <- m c_k + (1 - m) times the
    mean, or sum, of them. A class absent from the batch stays as it is.

    Args:
      centroids: [K, D] before.
      embeddings: [batch, D].
      labels: [batch] int, classes from 0.
      momentum: m.
      rule: 'printed' is 'sum' with absent classes shrinking to m c_k.
      where: [batch] bool, True for the embeddings that count; None counts all.

    Returns:
      [K, D] in the dtype of the centroids, without gradient and not of unit length: apply
      `normalise_rows` for that.

    Raises:
      ValueError: another dtype or shape, or an unknown rule.

    Source: Tiong et al., "Improving tail-class representation with centroid contrastive learning"
    (ICCL), 2021, equation 1.

    Reading: no code was released. The printed sum runs over classes, where an index of samples must
    be meant. The paper calls it an "exponential moving average", which a sum over the batch is not.
    The default is a moving average sample by sample, as in MoPro, which the paper follows, but
    without normalising afterwards.

    >>> embeddings, labels = jnp.array([[1.0], [3.0]]), jnp.array([0, 0])
    >>> update_centroids(jnp.zeros([2, 1]), embeddings, labels, momentum=0.5).tolist()
    [[1.75], [0.0]]
    """
    dtype = jnp.asarray(centroids).dtype
    centroids = checked_floats(centroids, (None, None), name='centroids')
    num_classes, width = centroids.shape
    embeddings = checked_floats(embeddings, (None, width), name='embeddings', where=where)
    labels = checked_labels(labels, (len(embeddings), num_classes), where=where)
    member = keep_examples(jax.nn.one_hot(labels, num_classes, dtype=embeddings.dtype), where)
    count = member.sum(axis=0)
    momentum = jnp.asarray(momentum, embeddings.dtype)
    keep = jnp.where(count > 0, momentum, 1)
    if rule == 'sequential':
        later = count[None, :] - jnp.cumsum(member, axis=0)
        weights, keep = member * momentum**later, momentum**count
    elif rule == 'mean':
        weights = member / jnp.maximum(count, 1)[None, :]
    elif rule == 'sum':
        weights = member
    elif rule == 'printed':
        weights, keep = member, jnp.broadcast_to(momentum, count.shape)
    else:
        raise ValueError(f"rule must be 'sequential', 'mean', 'sum' or 'printed', got {rule!r}")
    added = jnp.matmul(weights.T, embeddings, precision=_HIGHEST)
    updated = keep[:, None] * centroids + (1 - momentum) * added
    return jax.lax.stop_gradient(updated).astype(dtype)


def centroid_logits(
    embeddings: ArrayLike,
    centroids: ArrayLike,
    *,
    temperature: float = 0.07,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Logits of the centroid classifier, z . c_k / T; their softmax retrieves a centroid.

    Args:
      embeddings: [batch, D] unit vectors.
      centroids: [K, D], constants, used as given.
      temperature: T.
      where: [batch] bool, True for the embeddings that count; None counts all.

    Returns:
      [batch, K].

    Raises:
      ValueError: another dtype or shape, or a temperature that is not positive.

    Source: Tiong et al. (ICCL), 2021, equation 4.

    >>> centroid_logits(jnp.array([[1.0, 2.0]]), jnp.eye(2), temperature=0.5).tolist()
    [[2.0, 4.0]]
    """
    check_positive(temperature=temperature)
    embeddings = checked_floats(embeddings, (None, None), name='embeddings', where=where)
    centroids = checked_floats(centroids, (None, embeddings.shape[1]), name='centroids')
    constants = jax.lax.stop_gradient(centroids)
    return jnp.matmul(embeddings, constants.T, precision=_HIGHEST) / temperature


def centroid_contrastive(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    centroids: ArrayLike,
    temperature: float = 0.07,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Centroid contrastive loss, -log softmax_k(z . c_k / T)_y.

    Args:
      embeddings: [batch, D] unit vectors.
      labels: [batch] int, classes from 0.
      centroids: [K, D], constants.
      temperature: T.
      where: [batch] bool, True for the embeddings that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: another dtype or shape, or a temperature that is not positive.

    Source: Tiong et al. (ICCL), 2021, section 3.3, for images that are not mixed: its warm-up.

    >>> values = centroid_contrastive(
    ...     jnp.array([[0.0, 0.0]]), jnp.array([0]), centroids=jnp.eye(2)
    ... )
    >>> round(float(values[0]), 4)
    0.6931
    """
    logits = centroid_logits(embeddings, centroids, temperature=temperature, where=where)
    return softmax_cross_entropy(logits, labels, where=where)


def interpolative_centroid_contrastive(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    other_labels: ArrayLike,
    lam: ArrayLike,
    centroids: ArrayLike,
    temperature: float = 0.07,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Centroid contrast of mixed images, -lam log p(c_y | x) - (1 - lam) log p(c_{y'} | x).

    Args:
      embeddings: [batch, D] unit vectors of images lam x + (1 - lam) x'.
      labels: [batch] int y, of the images weighted lam, in ICCL those drawn uniformly.
      other_labels: [batch] int y', of the others, in ICCL those drawn class-aware.
      lam: scalar or [batch], in ICCL drawn uniformly from 0 to 1.
      centroids: [K, D], constants.
      temperature: T.
      where: [batch] bool, True for the embeddings that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: another dtype or shape, or a temperature that is not positive.

    Source: Tiong et al. (ICCL), 2021, equation 5; its images and label loss, equations 3 and 7, are
    those of `mixing`.

    Reading: no code was released. lam is drawn for each image.

    >>> values = interpolative_centroid_contrastive(
    ...     jnp.array([[2.0, 0.0]]), jnp.array([0]), other_labels=jnp.array([1]),
    ...     lam=0.5, centroids=jnp.eye(2), temperature=1.0
    ... )
    >>> round(float(values[0]), 4)
    1.1269
    """
    logits = centroid_logits(embeddings, centroids, temperature=temperature, where=where)
    return interpolated_cross_entropy(
        logits, labels, other_labels=other_labels, lam=lam, where=where
    )
