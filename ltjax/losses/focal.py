"""Focal loss on softmax probabilities, p = softmax(z): easy examples count less."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import check_not_negative, checked_floats, class_array, keep_examples
from ltjax.losses.classification import softmax_cross_entropy


def focusing_factor(log_p: jax.Array, gamma: float) -> jax.Array:
    """(1 - p)^gamma from log p, with finite gradients for every gamma >= 0 and log p <= 0.

    Where p rounds to 1 the factor is that of the least positive number, and constant.

    >>> focusing_factor(jnp.array([0.0, -jnp.inf]), 2.0).tolist()
    [0.0, 1.0]
    """
    log_p = jnp.minimum(log_p, -jnp.finfo(log_p.dtype).tiny)
    return jnp.exp(gamma * jnp.log(-jnp.expm1(log_p)))


def softmax_focal(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: float = 2.0,
    class_weights: ArrayLike | None = None,
    detach_factor: bool = False,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Softmax focal loss, (1 - exp(-l))^gamma l with l = -w_y log p_y; without weights exp(-l) = p_y.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0.
      gamma: focusing parameter; 0 is the cross-entropy.
      class_weights: [K] floating, w, which then change the focusing factor as well; None is w = 1.
        For the usual alpha-balanced form, w_y (1 - p_y)^gamma l, leave them out and reduce with
        `weighted_batch_mean`.
      detach_factor: makes (1 - exp(-l))^gamma a constant for the gradient; the value is the same.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: gamma is negative.

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017, equation 4, with the
    softmax in place of the sigmoid.

    Reading: weights inside the factor are what LDAM-DRW's released code does; the constant factor
    is that of GCL's second stage.

    >>> value = softmax_focal(jnp.zeros([1, 2]), jnp.array([0]), gamma=2.0)
    >>> round(float(value[0]), 4)  # log(2) / 4
    0.1733
    """
    check_not_negative(gamma=gamma)
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    losses = softmax_cross_entropy(logits, labels, where=where)
    if class_weights is not None:
        weights = class_array(class_weights, logits, name='class_weights')
        losses = losses * jnp.take(weights, keep_examples(jnp.asarray(labels), where))
    factor = focusing_factor(-losses, gamma)
    return losses * (jax.lax.stop_gradient(factor) if detach_factor else factor)
