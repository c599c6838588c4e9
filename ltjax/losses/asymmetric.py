"""Asymmetric losses: positives and negatives of an example are focused on differently.

In each of them z are the logits and p their sigmoid, or softmax where it says so. The losses on
sigmoids return the sum over the classes, and take labels [batch] int or floating targets [batch, K]
of 0 and 1, like those of `sigmoid`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import check_not_negative, checked_floats, checked_labels, keep_examples
from ltjax.losses.focal import focusing_factor
from ltjax.losses.sigmoid import binary_targets


def _power(base: jax.Array, exponent: float) -> jax.Array:
    """base^exponent for base >= 0, without gradient at 0: there a root's would be infinite."""
    positive = base > 0
    power = jnp.where(positive, base, 1) ** exponent
    return jnp.where(positive, power, float(exponent == 0))


def _check_clip(clip: float) -> None:
    if not 0 <= clip < 1:
        raise ValueError(f'clip must lie from 0 to below 1, got {clip}')


def asymmetric_multi_label(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma_pos: float = 1.0,
    gamma_neg: float = 4.0,
    clip: float = 0.05,
    eps: float = 1e-8,
    detach_factor: bool = False,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Asymmetric loss (ASL), sum over positives -(1 - p)^g+ log p, over negatives -m^g- log(1 - m).

    m = max(p - clip, 0): negatives with p below the clip are easy enough to count nothing.

    Args:
      logits: [batch, K], p = sigmoid(z).
      labels: [batch] int, or [batch, K] floating targets of 0 and 1.
      gamma_pos: g+, focusing parameter of the positives.
      gamma_neg: g-, of the negatives.
      clip: probability that negatives are shifted by.
      eps: the least argument of the logarithms, below which they are constant.
      detach_factor: makes (1 - p)^g+ and m^g- constants for the gradient.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: an exponent is negative, or clip is outside 0..1.

    Source: Ridnik et al., "Asymmetric loss for multi-label classification", ICCV 2021,
    section 2.

    Reading: the released code has two versions. One lets the gradient pass through the factors, as
    here; the other detaches them by default. Both also sum over the batch.

    >>> value = asymmetric_multi_label(jnp.zeros([1, 2]), jnp.array([0]), gamma_pos=0.0, gamma_neg=1.0, clip=0.0)
    >>> round(float(value[0]), 4)  # log(2) + log(2) / 2
    1.0397
    """
    check_not_negative(gamma_pos=gamma_pos, gamma_neg=gamma_neg)
    _check_clip(clip)
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    targets = binary_targets(logits, labels, where)
    p, q = jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    pos_factor = _power(q, gamma_pos)
    neg_factor = _power(jnp.maximum(p - clip, 0), gamma_neg)
    if detach_factor:
        pos_factor, neg_factor = jax.lax.stop_gradient((pos_factor, neg_factor))
    log_p = jnp.log(jnp.maximum(p, eps))
    log_1mm = jnp.log(jnp.clip(q + clip, eps, 1))
    values = -(targets * pos_factor * log_p + (1 - targets) * neg_factor * log_1mm)
    return keep_examples(values.sum(axis=1), where)


def asymmetric_single_label(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    label_smoothing: float = 0.1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Asymmetric loss for one label an example, -sum_k q_k w_k log p_k with p = softmax(z).

    w_y = (1 - p_y)^gamma_pos and w_k = p_k^gamma_neg for the other classes; the gradient goes
    through both. q = (1 - e) onehot(y) + e / K are smoothed targets: without smoothing only the
    true class is left, and gamma_neg has no part.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0.
      gamma_pos: focusing parameter of the true class.
      gamma_neg: focusing parameter of the other classes.
      label_smoothing: e, from 0 to 1.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: an exponent is negative, or label_smoothing is outside 0..1.

    Source: the single-label form in the released code of Ridnik et al., ICCV 2021; the paper has
    only the multi-label one.

    >>> value = asymmetric_single_label(jnp.zeros([1, 2]), jnp.array([0]), label_smoothing=0.0)
    >>> round(float(value[0]), 4)
    0.6931
    """
    check_not_negative(gamma_pos=gamma_pos, gamma_neg=gamma_neg)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f'label_smoothing must lie in 0..1, got {label_smoothing}')
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    num_classes = logits.shape[1]
    labels = checked_labels(labels, logits.shape, where=where)
    own = jax.nn.one_hot(labels, num_classes, dtype=bool)
    log_p = jax.nn.log_softmax(logits)
    factor = jnp.where(own, focusing_factor(log_p, gamma_pos), jnp.exp(gamma_neg * log_p))
    targets = jnp.where(own, 1 - label_smoothing, 0) + label_smoothing / num_classes
    return keep_examples(-(targets * factor * log_p).sum(axis=1), where)


class PadeCoefficients(NamedTuple):
    """First-order approximants log p = (a0 + a1 p) / (1 + b1 p), log q = (c0 + c1 q) / (1 + d1 q).

    The first serves positives, of probability p; the second negatives, q = 1 - p.
    """

    a0: float
    a1: float
    b1: float
    c0: float
    c1: float
    d1: float


PADE_COEFFICIENTS: Mapping[str, PadeCoefficients] = MappingProxyType(
    {
        'printed': PadeCoefficients(-1.5, 1.5, 0.0, -1.0, 1.0, 0.0),
        'pade': PadeCoefficients(-2.0, 2.0, 1.0, -2.0, 2.0, 1.0),
    }
)
"""By name: those that ALPA prints, and the [1/1] Pade approximants of the logarithm at 1."""

ALPA_VERSIONS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        'v1': dict(alpha=1.0, beta=1.0, gamma_pos=0.0, gamma_neg=4.0),
        'v2': dict(alpha=0.875, beta=1.625, gamma_pos=0.0, gamma_neg=4.0),
        'v3': dict(alpha=1.25, beta=2.0, gamma_pos=3.0, gamma_neg=2.0, hill=1.5),
    }
)
"""Hyper-parameters of `alpa` by the name that the paper gives the version."""


def alpa(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: float = 0.875,
    beta: float = 1.625,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    hill: float | None = None,
    clip: float = 0.05,
    coefficients: PadeCoefficients = PADE_COEFFICIENTS['printed'],
    where: ArrayLike | None = None,
) -> jax.Array:
    """ALPA, asymmetric loss with Pade approximants L+ of log p and L- of log q for the logarithms.

    The sum over positives of -alpha q^g+ L+(p) (1 - p)^g+, and over negatives of
    -beta p^g- L-(q) (1 - q)^g-, with q = min(1 - p + clip, 1). Each is focused twice.

    Args:
      logits: [batch, K], p = sigmoid(z).
      labels: [batch] int, or [batch, K] floating targets of 0 and 1.
      alpha: weight of the positives.
      beta: weight of the negatives.
      gamma_pos: g+, focusing parameter of the positives.
      gamma_neg: g-, of the negatives.
      hill: lambda of a further factor (lambda - p) of the negatives, as in the Hill loss; None has
        no such factor.
      clip: probability that negatives are shifted by; 0 is the paper's equation.
      coefficients: of the approximants, see `PADE_COEFFICIENTS`.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example. The paper sums over the batch too.

    Raises:
      ValueError: an exponent is negative, or clip is outside 0..1.

    Source: Kashyap et al., "Taming the tail: leveraging asymmetric loss and Padé approximation to
    overcome medical image long-tailed class imbalance", 2024, equation 11. The defaults are its
    version 2; `ALPA_VERSIONS` has all.

    Reading: clip and sign follow the released code; version 3 is only in the paper. The printed
    coefficients are lines of slope 3/2 and 1 and do not solve the paper's own conditions; 'pade'
    does. The printed ones are the default because the authors trained with them.

    >>> value = alpa(jnp.zeros([1, 2]), jnp.array([0]), clip=0.0, **ALPA_VERSIONS['v1'])
    >>> round(float(value[0]), 6)  # 3/4 of the positive and 1/512 of the negative
    0.751953
    """
    check_not_negative(gamma_pos=gamma_pos, gamma_neg=gamma_neg)
    _check_clip(clip)
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    targets = binary_targets(logits, labels, where)
    a0, a1, b1, c0, c1, d1 = coefficients
    p, one_minus_p = jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    q, one_minus_q = jnp.minimum(one_minus_p + clip, 1), jnp.maximum(p - clip, 0)
    positive = alpha * _power(q, gamma_pos) * _power(one_minus_p, gamma_pos)
    positive = positive * (a0 + a1 * p) / (1 + b1 * p)
    negative = beta * _power(p, gamma_neg) * _power(one_minus_q, gamma_neg)
    negative = negative * (c0 + c1 * q) / (1 + d1 * q)
    if hill is not None:
        negative = negative * (hill - p)
    values = -(targets * positive + (1 - targets) * negative)
    return keep_examples(values.sum(axis=1), where)
