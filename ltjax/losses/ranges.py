"""Range loss: the widest pairs of a class are drawn together, the nearest class centres pushed apart."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import check_not_negative, checked_floats, checked_labels


class Ranges(NamedTuple):
    """The two parts of the range loss, scalars.

    Attributes:
      intra: sum over the classes of the harmonic mean of their widest squared distances.
      inter: how far the squared distance of the nearest two class centres is below the margin.
    """

    intra: jax.Array
    inter: jax.Array


def range_loss(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    widest: int = 2,
    margin: float = 1.0,
    where: ArrayLike | None = None,
) -> Ranges:
    """Range loss of a batch: sum_k h / (1 / D_k1 + ... + 1 / D_kh), and max(margin - min_kl |c_k - c_l|^2, 0).

    D_k1, D_k2 ... are the largest squared distances between two images of class k, c_k is the mean of its images.

    Args:
      features: [batch, D].
      labels: [batch] int, classes from 0.
      num_classes: K.
      widest: h, pairs a class; a class with fewer takes all that it has. A class with a single image in the batch has
        no pair and adds nothing to `intra`.
      margin: of squared distances between centres; with fewer than two classes in the batch `inter` is 0.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      The two parts, to be added with weights.

    Raises:
      ValueError: widest is below 1, or margin negative.

    Source: Zhang et al., "Range loss for deep face recognition with long-tailed training data", ICCV 2017, section 4;
    two pairs a class.

    Reading: no code was released. A pair of equal images, which has no harmonic mean, counts as 1e-12 apart, without a
    gradient.

    >>> features, labels = jnp.array([[0.0], [1.0], [2.0], [4.0]]), jnp.array([0, 0, 0, 1])
    >>> intra, inter = range_loss(features, labels, num_classes=2, margin=10.0)
    >>> round(float(intra), 4), float(inter)  # 2 / (1/4 + 1/1); 10 - 3^2
    (1.6, 1.0)
    """
    check_not_negative(margin=margin)
    if widest < 1:
        raise ValueError(f'widest must be 1 or more, got {widest}')
    features = checked_floats(features, (None, None), name='features', where=where)
    batch = len(features)
    labels = checked_labels(labels, (batch, num_classes), where=where)
    if where is not None:  # masked images make a further class, which is left out
        labels = jnp.where(jnp.asarray(where, bool), labels, num_classes)
    intra = _intra(features, labels, num_classes, widest)
    return Ranges(intra, _inter(features, labels, num_classes, margin))


def _intra(features: jax.Array, labels: jax.Array, num_classes: int, widest: int) -> jax.Array:
    first, second = jnp.triu_indices(len(features), 1)
    if not len(first):
        return jnp.zeros((), features.dtype)
    # Pairs class by class, the widest first; of them only the chosen ones are computed with a gradient.
    distances = _gram_distances(features)[first, second]
    classes = jnp.where(labels[first] == labels[second], labels[first], num_classes)
    order = jnp.lexsort((-distances, classes))
    starts = jnp.searchsorted(classes[order], jnp.arange(num_classes + 1))
    places = starts[:-1, None] + jnp.arange(widest)[None, :]
    exists = places < starts[1:, None]
    chosen = order[jnp.minimum(places, len(order) - 1)]
    squared = _squared_distances(features[first[chosen]], features[second[chosen]])
    inverse = jnp.where(exists, 1 / jnp.maximum(squared, 1e-12), 0).sum(axis=1)
    pairs = exists.sum(axis=1)
    return jnp.where(pairs > 0, pairs / jnp.where(pairs > 0, inverse, 1), 0).sum()


def _inter(features: jax.Array, labels: jax.Array, num_classes: int, margin: float) -> jax.Array:
    member = jax.nn.one_hot(labels, num_classes, dtype=features.dtype)
    sizes = member.sum(axis=0)
    sums = jnp.matmul(member.T, features, precision=jax.lax.Precision.HIGHEST)
    centres = sums / jnp.maximum(sizes, 1)[:, None]
    present = sizes > 0
    both = present[:, None] & present[None, :] & ~jnp.eye(num_classes, dtype=bool)
    distances = jnp.where(both, _gram_distances(centres), jnp.inf)
    nearest = jnp.unravel_index(jnp.argmin(distances), distances.shape)
    squared = _squared_distances(centres[nearest[0]], centres[nearest[1]])
    return jnp.where(present.sum() > 1, jnp.maximum(margin - squared, 0), 0)


def _squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.square(a - b).sum(axis=-1)


def _gram_distances(rows: jax.Array) -> jax.Array:
    """Squared distances between all rows, without a gradient: of products, since differences would fill the memory."""
    rows = jax.lax.stop_gradient(rows)
    rows -= rows.mean(axis=0, keepdims=True)
    squares = jnp.square(rows).sum(axis=1)
    products = jnp.matmul(rows, rows.T, precision=jax.lax.Precision.HIGHEST)
    return squares[:, None] + squares[None, :] - 2 * products
