"""Classifier heads: from features and one weight row per class to logits.

In each of them x is a feature of width D, w_k the weight row of class k and K the number of classes.
Weights are [K, D], a row for each class like every class statistic of this folder; a Flax kernel is
[D, K], so hand over its transpose. Products run in full precision on every device.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import at_least_float32, checked_floats, checked_labels, keep_examples

_HIGHEST = jax.lax.Precision.HIGHEST

Transform = Literal['un', 'l2n', 'cl2n']
Metric = Literal['l2', 'cos']


def lengths(vectors: ArrayLike) -> jax.Array:
    """Euclidean lengths |v| [..., 1] of vectors [..., D]; zeros have length 0 and a zero gradient.

    >>> lengths(jnp.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[5.0], [0.0]]
    """
    squared = jnp.square(at_least_float32(vectors)).sum(axis=-1, keepdims=True)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), 0)


def unit_vectors(vectors: ArrayLike, *, eps: float = 1e-12) -> jax.Array:
    """Vectors along the last axis divided by their length, v / max(|v|, eps).

    Args:
      vectors: [..., D].
      eps: the least length that is divided by.

    Returns:
      [..., D]; a vector of zeros stays one and has a zero gradient, not 1 / eps.

    >>> unit_vectors(jnp.array([[0.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    vectors = at_least_float32(vectors)
    length = lengths(vectors)
    return jnp.where(length > 0, vectors / jnp.maximum(length, eps), 0)


def linear_logits(
    features: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None
) -> jax.Array:
    """The ordinary head, z_k = w_k . x + b_k.

    Args:
      features: [batch, D].
      weight: [K, D].
      bias: [K]; None leaves it out.

    Returns:
      Logits [batch, K].

    >>> linear_logits(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 0.0], [1.0, 1.0]])).tolist()
    [[1.0, 3.0]]
    """
    features = checked_floats(features, (None, None), name='features')
    weight = checked_floats(weight, (None, features.shape[1]), name='weight')
    logits = jnp.matmul(features, weight.T, precision=_HIGHEST)
    if bias is None:
        return logits
    return logits + checked_floats(bias, weight.shape[:1], name='bias')[None, :]


def cosine_logits(
    features: ArrayLike, weight: ArrayLike, *, scale: float = 1.0, eps: float = 1e-12
) -> jax.Array:
    """Cosine classifier, z_k = scale cos(x, w_k), without a bias.

    Args:
      features: [batch, D].
      weight: [K, D].
      scale: the logits lie between -scale and scale. 1 for losses that scale after a margin.
      eps: the least length that is divided by.

    Returns:
      Logits [batch, K]; 0 for a feature or weight row of zeros.

    Source: Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss",
    NeurIPS 2019, whose released code is the normalised last layer of LDAM, GCL and CC-SAM.

    >>> cosine_logits(jnp.array([[0.0, 3.0]]), jnp.array([[2.0, 0.0], [0.0, 5.0]])).tolist()
    [[0.0, 1.0]]
    """
    return scale * linear_logits(unit_vectors(features, eps=eps), unit_vectors(weight, eps=eps))


def normalised_linear(
    features: ArrayLike,
    weight: ArrayLike,
    *,
    temperature: float = 20.0,
    power: float = 1.0,
    eps: float = 1e-6,
) -> jax.Array:
    """Normalised linear head, z_k = temperature x / (|x|^power + eps) . w_k / (|w_k|^power + eps).

    Args:
      features: [batch, D].
      weight: [K, D].
      temperature: multiplies the logits.
      power: 1 gives cosines (but for eps), 0 nearly plain dot products.
      eps: added to the lengths.

    Returns:
      Logits [batch, K].

    Source: Wang et al., "Seesaw loss for long-tailed instance segmentation", CVPR 2021, the
    optional normalised classifier; constants as in mmdetection.

    >>> logits = normalised_linear(jnp.array([[0.0, 3.0]]), jnp.array([[0.0, 5.0]]))
    >>> round(float(logits[0, 0]), 3)
    20.0
    """

    def normalised(vectors: ArrayLike) -> jax.Array:
        vectors = at_least_float32(vectors)
        return vectors / (_power(lengths(vectors), power) + eps)

    return temperature * linear_logits(normalised(features), normalised(weight))


def tau_normalised(weight: ArrayLike, *, tau: float = 1.0) -> jax.Array:
    """Tau-normalised weights, w_k / |w_k|^tau: for inference, and without the bias.

    Args:
      weight: [K, D] trained weights.
      tau: 0 leaves them as they are, 1 gives all classes the same length; chosen on validation.

    Returns:
      [K, D]; a row of zeros stays one.

    Source: Kang et al., "Decoupling representation and classifier for long-tailed recognition",
    ICLR 2020, section 4; the bias is dropped as in its released code, see `linear_logits`.

    >>> tau_normalised(jnp.array([[0.0, 4.0]]), tau=0.5).tolist()
    [[0.0, 2.0]]
    """
    weight = at_least_float32(weight)
    return weight / _power(lengths(weight), tau)


def _power(length: jax.Array, exponent: float) -> jax.Array:
    """length^exponent, and 1 (so that it can be divided by) for a length of 0."""
    return jnp.where(length > 0, jnp.where(length > 0, length, 1) ** exponent, 1)


def learnable_scaling(logits: ArrayLike, scales: ArrayLike) -> jax.Array:
    """Learnable weight scaling (LWS), z_k = s_k (w_k . x + b_k): only the scales are trained.

    Args:
      logits: [batch, K] of the frozen head, its bias included.
      scales: [K], all 1 at the start.

    Returns:
      Logits [batch, K].

    Source: Kang et al., ICLR 2020, section 4; that the scale multiplies the bias too is as in its
    released code.

    >>> learnable_scaling(jnp.array([[1.0, 2.0]]), jnp.array([1.0, 0.5])).tolist()
    [[1.0, 1.0]]
    """
    logits = checked_floats(logits, (None, None), name='logits')
    return logits * checked_floats(scales, logits.shape[1:], name='scales')[None, :]


class NearestMeans(NamedTuple):
    """What a nearest-class-mean classifier has learned.

    Attributes:
      mean: [D] mean of all training features, as they came.
      centroids: [K, D] class means of the transformed features; 0 for a class without any.
      seen: [K] bool, the classes that have features; None: all.
    """

    mean: jax.Array
    centroids: jax.Array
    seen: jax.Array | None = None


def _transformed(features: jax.Array, mean: jax.Array, transform: Transform) -> jax.Array:
    transforms = {
        'un': lambda: features,
        'l2n': lambda: unit_vectors(features),
        'cl2n': lambda: unit_vectors(features - mean[None, :]),
    }
    if transform not in transforms:
        raise ValueError(f'transform must be one of {sorted(transforms)}, got {transform!r}')
    return transforms[transform]()


def nearest_means(
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    transform: Transform = 'cl2n',
    where: ArrayLike | None = None,
) -> NearestMeans:
    """Class means of training features, for `nearest_mean_logits`.

    Args:
      features: [N, D].
      labels: [N] int, classes from 0.
      num_classes: K, static.
      transform: of each feature first: 'un' none, 'l2n' to unit length, 'cl2n' the training mean
        subtracted and then to unit length. The class means are not brought to unit length again.
      where: [N] bool, True for the features that count; None counts all.

    Returns:
      The means in the dtype of the features, at least float32.

    Raises:
      ValueError: an unknown transform, or an argument has another shape or dtype.

    Source: Kang et al., ICLR 2020, section 4; the transforms are those of its released code.

    >>> fitted = nearest_means(jnp.array([[1.0], [3.0], [8.0]]), jnp.array([0, 0, 1]), 2)
    >>> fitted.mean.tolist(), fitted.centroids.tolist()
    ([4.0], [[-1.0], [1.0]])
    """
    features = checked_floats(features, (None, None), name='features', where=where)
    labels = checked_labels(labels, (len(features), num_classes), where=where)
    member = keep_examples(jax.nn.one_hot(labels, num_classes, dtype=features.dtype), where)
    counts = member.sum(axis=0)
    mean = features.sum(axis=0) / jnp.maximum(counts.sum(), 1)
    sums = jnp.matmul(member.T, _transformed(features, mean, transform), precision=_HIGHEST)
    return NearestMeans(mean, sums / jnp.maximum(counts, 1)[:, None], counts > 0)


def nearest_mean_logits(
    features: ArrayLike,
    means: NearestMeans,
    *,
    transform: Transform = 'cl2n',
    metric: Metric = 'l2',
) -> jax.Array:
    """Nearest class mean (NCM), z_k = -|t(x) - c_k|^2, or t(x) . c_k / D.

    Args:
      features: [batch, D].
      means: from `nearest_means` with the same transform.
      transform: t, see `nearest_means`.
      metric: 'l2' the negative squared distance, 'cos' the dot product over D.

    Returns:
      Logits [batch, K]; -inf for a class without training features: what is far from all classes
      would else be nearest to its centroid, 0.

    Raises:
      ValueError: an unknown transform or metric, or features of another shape.

    Source: Kang et al., ICLR 2020, section 4; both metrics as in its released code.

    >>> means = NearestMeans(jnp.array([4.0]), jnp.array([[-1.0], [0.5]]))
    >>> nearest_mean_logits(jnp.array([[5.0]]), means).tolist()
    [[-4.0, -0.25]]
    """
    width = means.centroids.shape[1]
    features = checked_floats(features, (None, width), name='features')
    transformed = _transformed(features, means.mean, transform)
    if metric == 'l2':
        # Differences first: |x|^2 - 2 x.c + |c|^2 loses digits where the features are long.
        deviations = transformed[:, None, :] - means.centroids[None, :, :]
        logits = -jnp.square(deviations).sum(axis=2)
    elif metric == 'cos':
        logits = linear_logits(transformed, means.centroids) / width
    else:
        raise ValueError(f"metric must be 'l2' or 'cos', got {metric!r}")
    return logits if means.seen is None else jnp.where(means.seen[None, :], logits, -jnp.inf)
