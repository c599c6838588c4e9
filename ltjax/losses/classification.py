"""Losses on the logits of a softmax classifier: one value per example.

In each of them z are the logits, y the label, p = softmax(z) and K the number of classes. Values
have the dtype of the logits, at least float32.
"""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from ltjax.losses._arrays import at_least_float32, checked_floats, checked_labels, keep_examples


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Cross-entropy with integer labels, -log p_y.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0; the label of a masked example may be anything.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    The label loss of LMD's stage 1 and of its equations 8 and 12.

    >>> values = softmax_cross_entropy(jnp.array([[2.0, 0.0], [0.0, 0.0]]), jnp.array([0, 1]))
    >>> [round(float(v), 4) for v in values]
    [0.1269, 0.6931]
    """
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    batch, num_classes = logits.shape
    labels = checked_labels(labels, batch=batch, num_classes=num_classes, where=where)
    values = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    return keep_examples(values, where)


def logit_adjusted(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    log_prior: ArrayLike,
    tau: float = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Logit-adjusted cross-entropy, -log softmax(z + tau log pi)_y.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0.
      log_prior: [K] finite log class frequencies, see `samplers.log_prior`.
      tau: strength; 0 is the plain cross-entropy, 1 is balanced softmax.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, equation 10.

    >>> log_prior = jnp.log(jnp.array([0.75, 0.25]))
    >>> value = logit_adjusted(jnp.zeros([1, 2]), jnp.array([1]), log_prior=log_prior)
    >>> round(float(jnp.exp(-value[0])), 4)
    0.25
    """
    logits = at_least_float32(logits)
    adjustment = tau * jnp.asarray(log_prior, logits.dtype)
    return softmax_cross_entropy(logits + adjustment[None, :], labels, where=where)


def generalized_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    q: float = 0.7,
    clamp_min: float = 1e-7,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Generalised cross-entropy, (1 - max(p_y, clamp_min)^q) / q.

    Between the cross-entropy (its limit for q = 0) and the mean absolute error 1 - p_y (q = 1). An
    example whose p_y is below the clamp has a constant value and a zero gradient.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0.
      q: exponent from 0 to 1; 0 gives the limit, the clamped cross-entropy.
      clamp_min: the least probability that is told apart from 0.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: q is negative, or clamp_min is not between 0 and 1.

    Zhang & Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy
    labels", NeurIPS 2018, equation 6.

    >>> logits = jnp.array([[0.0, 0.0]])
    >>> round(float(generalized_cross_entropy(logits, jnp.array([0]), q=1.0)[0]), 4)
    0.5
    """
    if q < 0:
        raise ValueError(f'q must not be negative, got {q}')
    if not 0 < clamp_min < 1:
        raise ValueError(f'clamp_min must lie between 0 and 1, got {clamp_min}')
    cross_entropy = softmax_cross_entropy(logits, labels, where=where)
    # Clamped as a logarithm: the probability itself underflows at large logits.
    log_p = jnp.maximum(-cross_entropy, jnp.log(jnp.asarray(clamp_min, cross_entropy.dtype)))
    return -log_p if q == 0 else -jnp.expm1(q * log_p) / q
