"""Learnable class prototypes and their recalibration (ProCo).

p_c are K prototypes of width D, which classify the projection F(x) of an image and, having its
width, mix with the other projection G(x) in `proto_instances`. No training code was released.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import at_least_float32, checked_floats, checked_labels, keep_examples
from ltjax.losses.gaussian import ema

_HIGHEST = jax.lax.Precision.HIGHEST


def calibration_factors(
    features: ArrayLike,
    labels: ArrayLike,
    prototypes: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Calibration factor of each class in a batch, omega_c = mean over its f of sigmoid(f . p_c).

    Args:
      features: [batch, D] F(x).
      labels: [batch] int, classes from 0.
      prototypes: [K, D].
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      omega [K], 0 for a class absent from the batch, and counts [K] int32; without gradient.

    Source: Yang et al., "ProCo: prototype-aware contrastive learning for long-tailed medical image
    classification", MICCAI 2022, equation 4.

    >>> omega, counts = calibration_factors(jnp.zeros([3, 1]), jnp.array([0, 0, 0]), jnp.ones([2, 1]))
    >>> omega.tolist(), counts.tolist()
    ([0.5, 0.0], [3, 0])
    """
    prototypes = checked_floats(prototypes, (None, None), name='prototypes')
    num_classes, width = prototypes.shape
    features = checked_floats(features, (None, width), name='features', where=where)
    labels = checked_labels(labels, (len(features), num_classes), where=where)
    response = jax.nn.sigmoid((features * prototypes[labels]).sum(axis=1))
    member = keep_examples(labels[:, None] == jnp.arange(num_classes)[None, :], where)
    counts = member.sum(axis=0, dtype=jnp.int32)
    sums = jnp.where(member, response[:, None], 0).sum(axis=0)
    return jax.lax.stop_gradient(sums / jnp.maximum(counts, 1).astype(sums.dtype)), counts


def running_calibration(
    running: ArrayLike, omega: ArrayLike, counts: ArrayLike, *, beta: float = 0.95
) -> jax.Array:
    """Exponential moving average of calibration factors, beta running + (1 - beta) omega.

    Args:
      running: [K] before; the paper starts from 0.01.
      omega: [K] of the batch, see `calibration_factors`.
      counts: [K] examples of each class in the batch; a class without any keeps its factor.
      beta: decay.

    Returns:
      [K].

    Source: Yang et al. (ProCo), MICCAI 2022, equation 5.

    >>> running = running_calibration(jnp.ones(2), jnp.zeros(2), jnp.array([3, 0]), beta=0.75)
    >>> running.tolist()
    [0.75, 1.0]
    """
    return jnp.where(jnp.asarray(counts) > 0, ema(running, omega, beta), jnp.asarray(running))


def recalibrated_prototypes(prototypes: ArrayLike, omega: ArrayLike) -> jax.Array:
    """Recalibrated prototypes, p_c + log omega_c in every coordinate.

    Args:
      prototypes: [K, D].
      omega: [K] running calibration factors, constants.

    Returns:
      [K, D].

    Source: Yang et al. (ProCo), MICCAI 2022, equation 6 to the letter; see `prototype_logits`.

    >>> recalibrated_prototypes(jnp.zeros([1, 2]), jnp.array([1.0])).tolist()
    [[0.0, 0.0]]
    """
    prototypes = at_least_float32(prototypes)
    return prototypes + _log(omega, prototypes)[:, None]


def prototype_logits(
    features: ArrayLike,
    prototypes: ArrayLike,
    *,
    omega: ArrayLike | None = None,
    recalibration: Literal['additive', 'vector'] = 'additive',
) -> jax.Array:
    """Class logits of the prototypes, f . p_c + log omega_c.

    Args:
      features: [batch, D] F(x).
      prototypes: [K, D].
      omega: [K] running calibration factors, constants; None leaves them out.
      recalibration: 'vector' gives f . (p_c + log omega_c) with `recalibrated_prototypes`.

    Returns:
      [batch, K].

    Raises:
      ValueError: another dtype or shape, or an unknown option.

    Source: Yang et al. (ProCo), MICCAI 2022, equation 6.

    Reading: the printed equation adds a number to a vector, which multiplies it by sum_j f_j in the
    logit. The default adds it to the logit, as logit adjustment does.

    >>> prototype_logits(jnp.ones([1, 2]), jnp.eye(2), omega=jnp.ones(2)).tolist()
    [[1.0, 1.0]]
    """
    if recalibration not in ('additive', 'vector'):
        raise ValueError(f"recalibration must be 'additive' or 'vector', got {recalibration!r}")
    features = checked_floats(features, (None, None), name='features')
    prototypes = checked_floats(prototypes, (None, features.shape[1]), name='prototypes')
    if omega is not None and recalibration == 'vector':
        prototypes = recalibrated_prototypes(prototypes, omega)
    logits = jnp.matmul(features, prototypes.T, precision=_HIGHEST)
    if omega is not None and recalibration == 'additive':
        logits = logits + _log(omega, logits)[None, :]
    return logits


def _log(omega: ArrayLike, like: jax.Array) -> jax.Array:
    """The log of `omega` as a constant, finite even where a sigmoid has underflowed."""
    factors = jax.lax.stop_gradient(jnp.asarray(omega, like.dtype))
    return jnp.log(jnp.maximum(factors, jnp.finfo(like.dtype).tiny))
