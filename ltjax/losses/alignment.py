"""DisAlign: a trained classifier's logits, calibrated class by class, image by image."""

import jax
from jax.typing import ArrayLike

from ltjax.losses._arrays import checked_floats, class_array


def aligned_logits(
    logits: ArrayLike, confidence: ArrayLike, *, magnitude: ArrayLike, margin: ArrayLike
) -> jax.Array:
    """Calibrated logits, s (a_k z_k + b_k) + (1 - s) z_k with s = sigmoid(confidence).

    Args:
      logits: [batch, K] of the trained classifier, which stays as it is.
      confidence: [batch] a linear function of the image's features; how much the calibration counts.
      magnitude: [K] a; 1 with b = 0 changes nothing.
      margin: [K] b.

    Returns:
      [batch, K].

    Source: Zhang et al., "Distribution alignment: a unified framework for long-tail visual recognition" (DisAlign),
    CVPR 2021, equations 5 to 7.

    >>> import jax.numpy as jnp
    >>> logits, options = jnp.array([[2.0, 4.0]]), dict(magnitude=jnp.array([1.0, 2.0]), margin=jnp.array([1.0, 0.0]))
    >>> aligned_logits(logits, jnp.zeros(1), **options).tolist()
    [[2.5, 6.0]]
    """
    logits = checked_floats(logits, (None, None), name='logits')
    score = jax.nn.sigmoid(checked_floats(confidence, logits.shape[:1], name='confidence'))[:, None]
    magnitude = class_array(magnitude, logits, name='magnitude')
    margin = class_array(margin, logits, name='margin')
    return score * (magnitude * logits + margin) + (1 - score) * logits
