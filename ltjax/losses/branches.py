"""BBN: two branches, fed by the ordinary and by the reversed sampler, with one classifier."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import checked_floats
from ltjax.losses.heads import linear_logits


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
