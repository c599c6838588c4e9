"""Feature distribution consistency: close to the own class's Gaussian, far from the others'.

The loss of LMD's expectation step. Distances are [batch, K] squared distances of each feature to
each class, by one of two readings; everything after takes them as they are.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import checked_floats, checked_labels

_HIGHEST = jax.lax.Precision.HIGHEST


def _deviations(features: ArrayLike, mean: ArrayLike) -> jax.Array:
    """[K, batch, C] deviations of each feature from each class mean."""
    features = checked_floats(features, (None, None), name='features')
    mean = checked_floats(mean, (None, features.shape[1]), name='mean')
    return features[None, :, :] - mean[:, None, :]


def _checked(
    distances: ArrayLike, labels: ArrayLike, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array]:
    """Distances and labels with masked examples zeroed."""
    distances = checked_floats(distances, (None, None), name='distances', where=where)
    return distances, checked_labels(labels, distances.shape, where=where)


def squared_mahalanobis(features: ArrayLike, mean: ArrayLike, whitening: ArrayLike) -> jax.Array:
    """Squared Mahalanobis distance, d_ik = (f_i - mean_k) cov_k^{-1} (f_i - mean_k)^T.

    The squared length of the whitened deviation; each class's whitening matrix is made once and
    kept, and none is formed per example.

    Args:
      features: [batch, C].
      mean: [K, C].
      whitening: [K, C, C] inverse Cholesky factors of the covariances, see `whitening_matrices`.

    Returns:
      [batch, K].

    Source: Pan et al. (LMD), 2025, equations 10 and 11.

    Reading: with the inverse covariance, as in the released code and as the distance's name
    implies.

    >>> squared_mahalanobis(jnp.array([[2.0]]), jnp.zeros([1, 1]), jnp.array([[[2.0]]])).tolist()
    [[16.0]]
    """
    deviations = _deviations(features, mean)
    matrices = jnp.asarray(whitening, deviations.dtype)
    whitened = jnp.einsum('kbd,kcd->kbc', deviations, matrices, precision=_HIGHEST)
    return jnp.square(whitened).sum(axis=2).T


def quadratic_form(features: ArrayLike, mean: ArrayLike, covariance: ArrayLike) -> jax.Array:
    """The distance as it is printed, d_ik = (f_i - mean_k) cov_k (f_i - mean_k)^T.

    Args:
      features: [batch, C].
      mean: [K, C].
      covariance: [K, C, C].

    Returns:
      [batch, K].

    Source: Pan et al. (LMD), 2025, equations 10 and 11 to the letter.

    >>> quadratic_form(jnp.array([[2.0]]), jnp.zeros([1, 1]), jnp.array([[[0.25]]])).tolist()
    [[1.0]]
    """
    deviations = _deviations(features, mean)
    products = jnp.matmul(deviations, jnp.asarray(covariance, deviations.dtype), precision=_HIGHEST)
    return (products * deviations).sum(axis=2).T


def attraction(
    distances: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Distance to the own class, Psi_i = d_{i, y_i}.

    Args:
      distances: [batch, K] squared distances.
      labels: [batch] int, classes from 0.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: Pan et al. (LMD), 2025, equation 10, whose 1/B is the mean over the batch.

    >>> attraction(jnp.array([[1.0, 4.0, 6.0]]), jnp.array([1])).tolist()
    [4.0]
    """
    distances, labels = _checked(distances, labels, where)
    return jnp.take_along_axis(distances, labels[:, None], axis=1)[:, 0]


def repulsion(
    distances: ArrayLike,
    labels: ArrayLike,
    *,
    max_distance: float | None = None,
    class_mask: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Mean distance to the other classes, Phi_i = 1/(K-1) sum_{k != y_i} min(d_ik, max_distance).

    Args:
      distances: [batch, K] squared distances.
      labels: [batch] int, classes from 0.
      max_distance: a distance above it counts as this constant, without gradient. The negative of
        the repulsion is minimised and unbounded below: a cap keeps it from taking over. None caps
        nothing, as in the paper.
      class_mask: [K] bool, True for the classes to keep away from; leave classes without samples
        out, since their Gaussian means nothing. K-1 becomes the number of other classes kept.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example or where no other class is kept.

    Source: Pan et al. (LMD), 2025, equation 11, whose 1/B is the mean over the batch.

    Reading: the cap is ours.

    >>> repulsion(jnp.array([[1.0, 4.0, 6.0]]), jnp.array([1])).tolist()
    [3.5]
    >>> repulsion(jnp.array([[1.0, 4.0, 6.0]]), jnp.array([1]), max_distance=2.0).tolist()
    [1.5]
    """
    distances, labels = _checked(distances, labels, where)
    other = labels[:, None] != jnp.arange(distances.shape[1])[None, :]
    if class_mask is not None:
        other = other & jnp.asarray(class_mask, bool)[None, :]
    distances = jnp.where(other, distances, 0)
    if max_distance is not None:
        distances = jnp.minimum(distances, max_distance)
    return distances.sum(axis=1) / jnp.maximum(other.sum(axis=1, dtype=distances.dtype), 1)


def feature_distribution_consistency(
    distances: ArrayLike,
    labels: ArrayLike,
    *,
    max_repulsion: float | None = None,
    class_mask: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Feature distribution consistency (FDC), attraction minus repulsion, Psi_i - Phi_i.

    Minimised, it draws features to their own class and pushes them from the others.

    Args:
      distances: [batch, K], from `squared_mahalanobis` or `quadratic_form`.
      labels: [batch] int, classes from 0.
      max_repulsion: cap on each repelling distance, see `repulsion`; None caps nothing.
      class_mask: [K] bool, True for the classes to keep away from; None keeps all.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: Pan et al. (LMD), 2025, equations 10 to 12: its E-step loss is lambda_e times the mean of
    this plus the mean cross-entropy through the frozen classifier.

    Reading: the paper's sign; the authors' released code minimises the negative of this.

    >>> distances = jnp.array([[1.0, 4.0, 6.0]])
    >>> feature_distribution_consistency(distances, jnp.array([0])).tolist()
    [-4.0]
    """
    away = repulsion(
        distances, labels, max_distance=max_repulsion, class_mask=class_mask, where=where
    )
    return attraction(distances, labels, where=where) - away
