"""Kullback-Leibler divergence of two softened predictions, and distillation with it."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import check_positive, checked_floats
from ltjax.losses.classification import softmax_cross_entropy


def kl_divergence(
    target_logits: ArrayLike,
    logits: ArrayLike,
    *,
    temperature: float = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Kullback-Leibler divergence KL(t || p) = sum_k t_k (log t_k - log p_k).

    Args:
      target_logits: [batch, K], t = softmax(target_logits / temperature). Not a constant unless
        the caller stops its gradient.
      logits: [batch, K], p = softmax(logits / temperature).
      temperature: softens both.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: another dtype or shape, or a temperature that is not positive.

    Source: Hinton et al., "Distilling the knowledge in a neural network", NeurIPS workshop 2015,
    equation 1 for the temperature.

    >>> value = kl_divergence(jnp.array([[0.0, 0.0]]), jnp.array([[2.0, 0.0]]))
    >>> round(float(value[0]), 4)
    0.4338
    """
    check_positive(temperature=temperature)
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    target = checked_floats(target_logits, logits.shape, name='target_logits', where=where)
    # Differences of log-softmax: the logarithm of a softmax is infinite at large logits.
    log_t, log_p = (
        jax.nn.log_softmax(target / temperature),
        jax.nn.log_softmax(logits / temperature),
    )
    return (jnp.exp(log_t) * (log_t - log_p)).sum(axis=1)


def distilled_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    teacher_logits: ArrayLike,
    weight: float = 0.5,
    temperature: float = 10.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Cross-entropy with knowledge distillation, (1 - w) CE(z, y) + w T^2 KL(teacher || student).

    Args:
      logits: [batch, K] of the student.
      labels: [batch] int, classes from 0.
      teacher_logits: [batch, K], a constant.
      weight: w, from 0 (cross-entropy) to 1 (distillation).
      temperature: T, divides both logits of the divergence but not those of the cross-entropy.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: another dtype or shape, a weight outside 0..1, or a temperature that is not
        positive.

    Source: Tiong et al., "Improving tail-class representation with centroid contrastive learning"
    (ICCL), 2021, equation 9; Hinton et al., NeurIPS workshop 2015.

    Reading: no code was released. The sum over samples is our mean over the batch.

    >>> logits, labels = jnp.array([[2.0, 0.0]]), jnp.array([1])
    >>> values = distilled_cross_entropy(logits, labels, teacher_logits=logits)
    >>> round(float(values[0]), 4)
    1.0635
    """
    if isinstance(weight, int | float) and not 0 <= weight <= 1:
        raise ValueError(f'weight must lie in 0..1, got {weight}')
    cross_entropy = softmax_cross_entropy(logits, labels, where=where)
    teacher = jax.lax.stop_gradient(jnp.asarray(teacher_logits))
    divergence = kl_divergence(teacher, logits, temperature=temperature, where=where)
    return (1 - weight) * cross_entropy + weight * temperature**2 * divergence
