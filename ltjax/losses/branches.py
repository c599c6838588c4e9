"""Networks of several branches: BBN's two share a classifier, SADE's have one each and losses of their own."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy import typing as npt

from ltjax.losses._arrays import check_not_negative, checked_floats, class_array
from ltjax.losses.classification import logit_adjusted
from ltjax.losses.heads import linear_logits
from ltjax.losses.samplers import log_prior


def bilateral_logits(
    features: ArrayLike,
    reversed_features: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    alpha: ArrayLike = 0.5,
) -> jax.Array:
    """Logits of both branches, z = W [2 alpha f ; 2 (1 - alpha) f'] + b.

    Args:
      features: [batch, D], f, of the branch that the ordinary sampler feeds.
      reversed_features: [batch, D'], f', of the branch that the reversed sampler feeds.
      weight: [K, D + D'].
      bias: [K], or None.
      alpha: see `schedules.bilateral_coefficient`. The default 0.5 is for inference, where both
        branches see the same image: W [f ; f'] + b.

    Returns:
      [batch, K]. Their loss is `mixing.interpolated_cross_entropy` of both labels with lam = alpha.

    Source: Zhou et al., "BBN: bilateral-branch network with cumulative learning for long-tailed
    visual recognition", CVPR 2020, equation 1; the factor 2 as in its released code.

    >>> ordinary, reversed_ = jnp.array([[1.0]]), jnp.array([[3.0]])
    >>> bilateral_logits(ordinary, reversed_, jnp.array([[1.0, 1.0]]), alpha=1.0).tolist()
    [[2.0]]
    """
    features = checked_floats(features, (None, None), name='features')
    reversed_features = checked_floats(
        reversed_features, (len(features), None), name='reversed_features'
    )
    share = jnp.asarray(alpha, features.dtype)
    both = jnp.concatenate([2 * share * features, 2 * (1 - share) * reversed_features], axis=1)
    return linear_logits(both, weight, bias)


def reversed_log_prior(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Log class frequencies dealt out in reverse: the rarest class has that of the most frequent.

    Args:
      counts: [K] training images of each class; one without any counts as the rarest that has some,
        see `samplers.log_prior`.

    Returns:
      [K] host float64, for `inverse_softmax`.

    Source: Zhang et al., "Self-supervised aggregation of diverse experts for test-agnostic
    long-tailed recognition", NeurIPS 2022, section 4.1, in the form of its released code.

    Reading: classes of the same size are ranked in their order, so that theirs may differ.

    >>> reversed_log_prior([6, 3, 1]).round(4).tolist()
    [-2.3026, -1.204, -0.5108]
    """
    frequencies = log_prior(np.asarray(counts))
    order = np.argsort(frequencies, kind='stable')
    dealt = np.empty_like(frequencies)
    dealt[order] = frequencies[order[::-1]]
    return dealt


def inverse_softmax(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    log_prior: ArrayLike,
    reversed_log_prior: ArrayLike,
    tau: float = 2.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Inverse softmax, -log softmax(z + log pi - tau log pi')_y: expertise for the reversed frequencies.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0.
      log_prior: [K] finite log class frequencies, log pi, see `samplers.log_prior`.
      reversed_log_prior: [K] finite, log pi', see `reversed_log_prior`.
      tau: strength; 0 is balanced softmax.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: tau is negative.

    Source: Zhang et al. (SADE), NeurIPS 2022, section 4.1, where tau is lambda.

    >>> log_prior = jnp.log(jnp.array([0.8, 0.2]))
    >>> values = inverse_softmax(
    ...     jnp.zeros([1, 2]), jnp.array([1]), log_prior=log_prior, reversed_log_prior=log_prior[::-1]
    ... )
    >>> round(float(jnp.exp(-values[0])), 4)
    0.0154
    """
    check_not_negative(tau=tau)
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    inverse = class_array(reversed_log_prior, logits, name='reversed_log_prior')
    return logit_adjusted(logits - tau * inverse, labels, log_prior=log_prior, where=where)
