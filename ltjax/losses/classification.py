"""Losses on the logits of a softmax classifier: one value per example.

In each of them z are the logits, y the label, p = softmax(z) and K the number of classes. Values
have the dtype of the logits, at least float32.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from numpy import typing as npt

from ltjax.losses._arrays import (
    at_least_smallest,
    check_not_negative,
    check_positive,
    checked_counts,
    checked_floats,
    checked_labels,
    class_array,
    keep_examples,
)


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Cross-entropy with integer labels, -log p_y, or -sum_k q_k log p_k with smoothed labels.

    Smoothing by e makes the targets q = (1 - e) onehot(y) + e / K.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0; the label of a masked example may be anything.
      label_smoothing: e, from 0 to 1; 0 smooths nothing.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: label_smoothing is outside 0..1.

    Source: Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016,
    section 7, for the smoothing. The label loss of LMD's stage 1 and of its equations 8 and 12.

    >>> values = softmax_cross_entropy(jnp.array([[2.0, 0.0], [0.0, 0.0]]), jnp.array([0, 1]))
    >>> [round(float(v), 4) for v in values]
    [0.1269, 0.6931]
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f'label_smoothing must lie in 0..1, got {label_smoothing}')
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    labels = checked_labels(labels, logits.shape, where=where)
    if label_smoothing:
        onehot = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
        targets = optax.smooth_labels(onehot, label_smoothing)
        values = optax.losses.softmax_cross_entropy(logits, targets)
    else:
        values = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    return keep_examples(values, where)


def soft_target_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Cross-entropy with a distribution over the classes as target, -sum_k q_k log p_k.

    Args:
      logits: [batch, K].
      targets: [batch, K] floating, q; a row of sum 1 for each example that counts.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018, section 1,
    whose mixed labels are such targets.

    >>> value = soft_target_cross_entropy(jnp.array([[2.0, 0.0]]), jnp.array([[0.75, 0.25]]))
    >>> round(float(value[0]), 4)
    0.6269
    """
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    targets = checked_floats(targets, logits.shape, name='targets', where=where)
    values = optax.losses.softmax_cross_entropy(logits, targets.astype(logits.dtype))
    return keep_examples(values, where)


def logit_adjustment(
    counts: npt.ArrayLike | Sequence[int], *, tau: float = 1.0, epsilon: float = 1e-12
) -> npt.NDArray[np.float64]:
    """What logit adjustment adds to the logits of each class, log((n_k / N)^tau + epsilon).

    Args:
      counts: [K] training images of each class; one without any counts as the rarest that has some,
        see `samplers.log_prior`.
      tau: strength; 0 adjusts nothing (up to epsilon).
      epsilon: added before the logarithm, see the reading.

    Returns:
      [K] host float64, the `log_prior` of `logit_adjusted` and `post_hoc_adjusted` at their tau 1.

    Raises:
      ValueError: tau is negative, or epsilon not positive.

    Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, equations 9 and 10.

    Reading: the epsilon is that of a public PyTorch port; the paper has none. It lets a class
    without images win, by -log epsilon = 27.6. `samplers.log_prior` has no epsilon and leaves tau
    to the loss.

    >>> logit_adjustment([3, 1], tau=2.0).round(4).tolist()
    [-0.5754, -2.7726]
    """
    check_not_negative(tau=tau)
    check_positive(epsilon=epsilon)
    checked = checked_counts(counts)
    return np.log((at_least_smallest(checked) / checked.sum()) ** tau + epsilon)


def logit_adjusted(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    log_prior: ArrayLike,
    tau: float = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Logit-adjusted cross-entropy, -log softmax(z + tau log pi)_y.

    The network that it trains is used at test time with its plain logits.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0.
      log_prior: [K] finite log class frequencies, see `samplers.log_prior`; a constant added to all
        of them changes nothing, so that log counts do as well.
      tau: strength; 0 is the plain cross-entropy, 1 is balanced softmax.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: Menon et al., ICLR 2021, equation 10; at tau 1 the balanced softmax of Ren et al.,
    "Balanced meta-softmax for long-tailed visual recognition", NeurIPS 2020, section 3.1.

    >>> log_prior = jnp.log(jnp.array([0.75, 0.25]))
    >>> value = logit_adjusted(jnp.zeros([1, 2]), jnp.array([1]), log_prior=log_prior)
    >>> round(float(jnp.exp(-value[0])), 4)
    0.25
    """
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    return softmax_cross_entropy(
        logits + tau * class_array(log_prior, logits, name='log_prior'), labels, where=where
    )


def balanced_softmax(
    logits: ArrayLike, labels: ArrayLike, *, log_prior: ArrayLike, where: ArrayLike | None = None
) -> jax.Array:
    """Balanced softmax, -log(n_y e^{z_y} / sum_k n_k e^{z_k}): logit adjustment with tau = 1.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0.
      log_prior: [K] finite log class frequencies, see `samplers.log_prior`, or log counts.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: Ren et al., NeurIPS 2020, equation 3.

    >>> counts = jnp.log(jnp.array([3.0, 1.0]))
    >>> value = balanced_softmax(jnp.zeros([1, 2]), jnp.array([1]), log_prior=counts)
    >>> round(float(jnp.exp(-value[0])), 4)
    0.25
    """
    return logit_adjusted(logits, labels, log_prior=log_prior, where=where)


def post_hoc_adjusted(logits: ArrayLike, *, log_prior: ArrayLike, tau: float = 1.0) -> jax.Array:
    """Logits of a network trained with plain cross-entropy, adjusted for the test, z - tau log pi.

    Args:
      logits: [batch, K].
      log_prior: [K] finite log class frequencies, see `samplers.log_prior`.
      tau: strength.

    Returns:
      [batch, K].

    Source: Menon et al., ICLR 2021, equation 9.

    >>> post_hoc_adjusted(jnp.zeros([1, 2]), log_prior=jnp.array([-0.5, -1.0])).tolist()
    [[0.5, 1.0]]
    """
    logits = checked_floats(logits, (None, None), name='logits')
    return logits - tau * class_array(log_prior, logits, name='log_prior')


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

    Source: Zhang & Sabuncu, "Generalized cross entropy loss for training deep neural networks with
    noisy labels", NeurIPS 2018, equation 6.

    Reading: the clamp is that of LMD's released code; the paper has none.

    >>> logits = jnp.array([[0.0, 0.0]])
    >>> round(float(generalized_cross_entropy(logits, jnp.array([0]), q=1.0)[0]), 4)
    0.5
    """
    check_not_negative(q=q)
    if not 0 < clamp_min < 1:
        raise ValueError(f'clamp_min must lie between 0 and 1, got {clamp_min}')
    cross_entropy = softmax_cross_entropy(logits, labels, where=where)
    # Clamped as a logarithm: the probability itself underflows at large logits.
    log_p = jnp.maximum(-cross_entropy, jnp.log(jnp.asarray(clamp_min, cross_entropy.dtype)))
    return -log_p if q == 0 else -jnp.expm1(q * log_p) / q
