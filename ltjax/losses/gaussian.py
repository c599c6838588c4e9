"""Class-wise Gaussians of features: estimate, average, draw from, and measure distance to.

One normal distribution N(mean_k, cov_k) per class is what LMD's virtual features (equations 6 to 8)
and its feature distribution consistency (equations 10 to 12) share. K is the number of classes, C
the feature width. Matrix products run in full precision on every device.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import at_least_float32, checked_floats, keep_examples

_HIGHEST = jax.lax.Precision.HIGHEST
_TILE = 256  # rows of one class that are multiplied at a time; bounds the memory of a scatter

Tree = TypeVar('Tree')


class ClassGaussians(NamedTuple):
    """One Gaussian per class.

    Attributes:
      mean: [K, C].
      covariance: [K, C, C], symmetric, ridge included.
      counts: [K] int32, the rows that each class was estimated from.
    """

    mean: jax.Array
    covariance: jax.Array
    counts: jax.Array


def class_gaussians(
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    ridge: float = 0.01,
    where: ArrayLike | None = None,
) -> ClassGaussians:
    """Mean and covariance of each class, sum (v - mean_k)(v - mean_k)^T / (n_k - 1) + ridge I.

    A class with one row has the covariance ridge I, the limit of a class that does not vary. A
    class without rows has mean 0, covariance ridge I and count 0: mask it by `counts`.

    Args:
      features: [N, C].
      labels: [N] int; rows with a label outside 0..num_classes-1 do not count.
      num_classes: K, static.
      ridge: added to the diagonal. A class with fewer than C + 1 rows has a singular covariance,
        which only a ridge makes positive definite. 0 is the paper's plain covariance.
      where: [N] bool, True for the rows that count; None counts all.

    Returns:
      The Gaussians in the dtype of the features, at least float32. Beyond the result the memory is
      one more [N, C] array.

    Raises:
      ValueError: features or labels of another shape or dtype.

    Source: Pan et al. (LMD), 2025, equation 6.

    Reading: the ridge is that of the released code. For a class with one row that code divides by
    0; the rule here is ours.

    >>> gaussians = class_gaussians(jnp.array([[0.0], [2.0], [5.0]]), jnp.array([0, 0, 1]), 2)
    >>> gaussians.mean.tolist(), gaussians.counts.tolist()
    ([[1.0], [5.0]], [2, 1])
    >>> [round(float(v), 4) for v in gaussians.covariance.ravel()]
    [2.01, 0.01]
    """
    features = checked_floats(features, (None, None), name='features', where=where)
    labels = jnp.asarray(labels)
    if labels.shape != features.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f'labels must be integers [{len(features)}], got {labels.dtype}{labels.shape}'
        )
    counted = (labels >= 0) & (labels < num_classes)
    if where is not None:
        counted = counted & jnp.asarray(where, bool)
    features = keep_examples(features, counted)
    labels = jnp.where(counted, labels, num_classes)

    member = labels[:, None] == jnp.arange(num_classes)[None, :]
    count = member.sum(axis=0, dtype=jnp.int32)
    size = count.astype(features.dtype)[:, None]
    sums = jnp.matmul(member.astype(features.dtype).T, features, precision=_HIGHEST)
    mean = sums / jnp.maximum(size, 1)
    # Centred before it is squared: E[vv] - E[v]E[v] loses all digits where the mean is large.
    centred = keep_examples(features - mean[jnp.minimum(labels, num_classes - 1)], counted)
    scatter = _class_scatter(centred, labels, count)
    covariance = scatter / jnp.maximum(size - 1, 1)[:, :, None]
    identity = jnp.eye(features.shape[1], dtype=features.dtype)
    return ClassGaussians(mean, covariance + ridge * identity[None, :, :], count)


def with_expected_counts(gaussians: ClassGaussians, total: int) -> ClassGaussians:
    """The sums of each class scaled by K/N and K/(N-K), whatever its count: equation 7 as printed.

    Args:
      gaussians: estimated without a ridge from `total` rows.
      total: N.

    Source: Pan et al. (LMD), 2025, equation 7 to the letter.

    Reading: not the default; the released code divides by each class's own count.

    >>> gaussians = class_gaussians(jnp.array([[0.0], [2.0], [5.0]]), jnp.array([0, 0, 1]), 2)
    >>> [round(float(v), 4) for v in with_expected_counts(gaussians, 3).mean.ravel()]
    [1.3333, 3.3333]
    """
    num_classes = len(gaussians.counts)
    mean_factor = gaussians.counts * (num_classes / total)
    spread_factor = jnp.maximum(gaussians.counts - 1, 0) * (
        num_classes / max(total - num_classes, 1)
    )
    return gaussians._replace(
        mean=gaussians.mean * mean_factor[:, None],
        covariance=gaussians.covariance * spread_factor[:, None, None],
    )


def _class_scatter(rows: jax.Array, labels: jax.Array, count: jax.Array) -> jax.Array:
    """Sum of the outer products of each class's rows.

    The rows are taken class by class in tiles, each of one class: N C^2 products in all, where a
    masked product per class would take K times as many.

    Args:
      rows: [N, C].
      labels: [N] int, K for rows of no class.
      count: [K] rows of each class.

    Returns:
      [K, C, C].
    """
    (num_rows, width), num_classes = rows.shape, count.shape[0]
    order = jnp.argsort(labels)
    first_row = jnp.cumsum(count) - count
    tiles = (count + _TILE - 1) // _TILE
    end_tile = jnp.cumsum(tiles)

    def add_tile(scatter: jax.Array, tile: jax.Array) -> tuple[jax.Array, None]:
        k = jnp.minimum(jnp.searchsorted(end_tile, tile, side='right'), num_classes - 1)
        within = (tile - (end_tile[k] - tiles[k])) * _TILE + jnp.arange(_TILE)
        position = jnp.minimum(first_row[k] + within, num_rows - 1)
        block = keep_examples(rows[order[position]], within < count[k])
        return scatter.at[k].add(jnp.matmul(block.T, block, precision=_HIGHEST)), None

    # Every class can leave one tile partly filled, so this many tiles always suffice.
    most_tiles = num_rows // _TILE + num_classes
    empty = jnp.zeros((num_classes, width, width), rows.dtype)
    return jax.lax.scan(add_tile, empty, jnp.arange(most_tiles))[0]


def ema_decay(step: ArrayLike, *, decay: float = 0.999) -> jax.Array:
    """Decay of an exponential moving average with warm-up, min(1 - 1/(step + 1), decay).

    Step 0 gives 0 (the average becomes a copy); while the first bound holds, the average is the
    arithmetic mean of everything so far.

    Args:
      step: update number from 0, any shape.
      decay: the largest decay.

    Returns:
      The decay, of the shape of step, in the default float dtype.

    Source: the released code of LMD, for the teacher and for the class Gaussians; Tarvainen &
    Valpola, "Mean teachers are better role models", NeurIPS 2017.

    >>> [round(float(ema_decay(step)), 4) for step in (0, 1, 3, 100_000)]
    [0.0, 0.5, 0.75, 0.999]
    """
    return jnp.minimum(1 - 1 / (jnp.asarray(step, float) + 1), decay)


def ema(old: Tree, new: Tree, alpha: ArrayLike) -> Tree:
    """Exponential moving average of two trees of arrays, alpha old + (1 - alpha) new.

    Args:
      old: tree of arrays.
      new: tree of the same structure and shapes.
      alpha: scalar from 0 (copies new) to 1 (keeps old), see `ema_decay`.

    Returns:
      The average in the dtypes of old. Leaves that are not floating point, such as counts, are
      taken from new.

    Source: Pan et al. (LMD), 2025, below equation 7 and Algorithm 1 line 7.

    >>> ema({'mean': jnp.array(1.0)}, {'mean': jnp.array(3.0)}, 0.5)['mean'].item()
    2.0
    """

    def average(before: ArrayLike, after: ArrayLike) -> jax.Array:
        before, after = jnp.asarray(before), jnp.asarray(after)
        if not jnp.issubdtype(before.dtype, jnp.inexact):
            return after
        wide = at_least_float32(before)
        weight = 1 - jnp.asarray(alpha, wide.dtype)
        return (wide + weight * (after.astype(wide.dtype) - wide)).astype(before.dtype)

    return jax.tree.map(average, old, new)


def cholesky_factors(covariance: ArrayLike) -> jax.Array:
    """Lower Cholesky factors L_k with L_k L_k^T = cov_k: one factorisation per class.

    A singular or indefinite covariance gives NaN without an error. The ridge of `class_gaussians`
    keeps the least eigenvalue at the ridge, which float32 resolves as long as the largest one is
    below about a million ridges.

    Args:
      covariance: [K, C, C] symmetric positive definite.

    Returns:
      [K, C, C] lower triangular.

    >>> cholesky_factors(jnp.array([[[4.0, 0.0], [2.0, 2.0]]])).shape
    (1, 2, 2)
    """
    return _each_class(jnp.linalg.cholesky, at_least_float32(covariance))


def whitening_matrices(cholesky: ArrayLike) -> jax.Array:
    """Inverse factors L_k^{-1}, which turn features of class k into features of unit covariance.

    Made once from factors that are used for many batches: a product with them is faster than a
    triangular solve, as exact (both inherit the error of the factor), and runs on any device
    without a call to LAPACK.

    Args:
      cholesky: [K, C, C] lower factors, see `cholesky_factors`.

    Returns:
      [K, C, C] lower triangular.

    >>> whitening_matrices(jnp.array([[[2.0, 0.0], [0.0, 4.0]]])).tolist()
    [[[0.5, 0.0], [0.0, 0.25]]]
    """

    def invert(factors: jax.Array) -> jax.Array:
        identity = jnp.broadcast_to(jnp.eye(factors.shape[-1], dtype=factors.dtype), factors.shape)
        return jax.lax.linalg.triangular_solve(factors, identity, left_side=True, lower=True)

    return _each_class(invert, at_least_float32(cholesky))


def _each_class(solve: Callable[[jax.Array], jax.Array], matrices: jax.Array) -> jax.Array:
    """Returns `solve` of matrices [K, C, C]: on accelerators in one batch, on CPUs one after another.

    A batched LAPACK call waits inside XLA's CPU thread pool for workers of that pool, and two of
    them at a time can wait for each other for ever.
    """

    def one_by_one(matrices: jax.Array) -> jax.Array:
        return jnp.stack([solve(matrix) for matrix in matrices])

    return jax.lax.platform_dependent(matrices, cpu=one_by_one, default=solve)


def reparameterise(mean: ArrayLike, cholesky: ArrayLike, noise: ArrayLike) -> jax.Array:
    """Turns standard normal noise into draws of each class, mean_k + L_k e.

    Args:
      mean: [K, C].
      cholesky: [K, C, C] lower factors of the covariances.
      noise: [K, R, C] standard normal.

    Returns:
      [K, R, C].

    Source: Pan et al. (LMD), 2025, section 3.4.1: v_k drawn from N(mean_k, cov_k).

    >>> draws = reparameterise(jnp.ones([1, 1]), 2 * jnp.ones([1, 1, 1]), jnp.ones([1, 3, 1]))
    >>> draws.ravel().tolist()
    [3.0, 3.0, 3.0]
    """
    mean = at_least_float32(mean)
    offset = jnp.einsum('krd,kcd->krc', jnp.asarray(noise), cholesky, precision=_HIGHEST)
    return mean[:, None, :] + offset


def virtual_features(
    key: jax.Array, mean: ArrayLike, cholesky: ArrayLike, per_class: int
) -> tuple[jax.Array, jax.Array]:
    """Draws the same number of virtual features from every class's Gaussian.

    Drawn class by class because a factor per row would have to be gathered: draw a batch at a time
    rather than store all of them.

    Args:
      key: random key.
      mean: [K, C].
      cholesky: [K, C, C] lower factors of the covariances.
      per_class: R, draws of each class, static.

    Returns:
      Features [K R, C], class-major (R rows of class 0, then R of class 1), and labels [K R] int32.

    Source: Pan et al. (LMD), 2025, section 3.4.1 and equation 8.

    >>> mean, cholesky = jnp.zeros([2, 3]), jnp.zeros([2, 3, 3])
    >>> features, labels = virtual_features(jax.random.key(0), mean, cholesky, 2)
    >>> features.shape, labels.tolist()
    ((4, 3), [0, 0, 1, 1])
    """
    mean = at_least_float32(mean)
    num_classes, width = mean.shape
    noise = jax.random.normal(key, (num_classes, per_class, width), mean.dtype)
    features = reparameterise(mean, cholesky, noise).reshape(num_classes * per_class, width)
    return features, jnp.repeat(jnp.arange(num_classes, dtype=jnp.int32), per_class)
