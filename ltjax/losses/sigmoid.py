"""Losses that make K yes-or-no decisions: one value per example, the sum over the classes.

In each of them z are the logits and t the targets: labels [batch] int, classes from 0, stand for
their one-hot rows; floating targets [batch, K] may name several classes of one example, or none.
"""

import math

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from ltjax.losses._arrays import check_not_negative, checked_floats, checked_labels, keep_examples


def binary_targets(
    logits: jax.Array, labels: ArrayLike, where: ArrayLike | None = None
) -> jax.Array:
    """Targets [batch, K] in the dtype of the logits, from either form of the labels.

    >>> binary_targets(jnp.zeros([1, 3]), jnp.array([1])).tolist()
    [[0.0, 1.0, 0.0]]
    """
    if jnp.ndim(labels) == 2:
        return checked_floats(labels, logits.shape, name='labels', where=where).astype(logits.dtype)
    labels = checked_labels(labels, logits.shape, where=where)
    return jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)


def sigmoid_focal(
    logits: ArrayLike, labels: ArrayLike, *, gamma: float = 2.0, where: ArrayLike | None = None
) -> jax.Array:
    """Sigmoid focal loss, sum_k (1 - p_k)^gamma (-log p_k), p_k the probability of the truth.

    p_k = sigmoid(z_k) where t_k = 1 and sigmoid(-z_k) where t_k = 0. The class-balanced focal loss
    (CB-Focal) is its `weighted_batch_mean` with `effective_number_weights` of the labels: divided
    by the batch, not by batch K.

    Args:
      logits: [batch, K].
      labels: [batch] int, or [batch, K] floating targets from 0 to 1.
      gamma: focusing parameter; 0 is the sigmoid cross-entropy.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: gamma is negative.

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017, equation 4; Cui et al.,
    "Class-balanced loss based on effective number of samples", CVPR 2019, section 4.3.

    >>> value = sigmoid_focal(jnp.zeros([1, 2]), jnp.array([0]), gamma=1.0)
    >>> round(float(value[0]), 4)  # log(2) / 2 of each class
    0.6931
    """
    check_not_negative(gamma=gamma)
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    targets = binary_targets(logits, labels, where)
    values = optax.losses.sigmoid_focal_loss(logits, targets, gamma=gamma)
    return keep_examples(values.sum(axis=1), where)


def sigmoid_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Sigmoid (binary) cross-entropy, -sum_k [t_k log sigmoid(z_k) + (1 - t_k) log sigmoid(-z_k)].

    Args:
      logits: [batch, K].
      labels: [batch] int, or [batch, K] floating targets from 0 to 1.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: Cui et al., CVPR 2019, section 4.2, there with class-balanced weights.

    >>> value = sigmoid_cross_entropy(jnp.zeros([1, 2]), jnp.array([0]))
    >>> round(float(value[0]), 4)
    1.3863
    """
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    targets = binary_targets(logits, labels, where)
    values = optax.losses.sigmoid_binary_cross_entropy(logits, targets)
    return keep_examples(values.sum(axis=1), where)


def softmax_binary_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Binary cross-entropy of softmax probabilities, -sum_k [t_k log p_k + (1 - t_k) log(1 - p_k)].

    Args:
      logits: [batch, K], p = softmax(z).
      labels: [batch] int, or [batch, K] floating targets from 0 to 1.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: Alshammari et al., "Long-tailed recognition via weight balancing", CVPR 2022: what its
    released code trains the second stage with.

    Reading: the code takes the mean over the classes as well (divide by K) and inherits a clamp of
    each logarithm at -100, below which examples have no gradient; ours needs no clamp.

    >>> value = softmax_binary_cross_entropy(jnp.zeros([1, 2]), jnp.array([0]))
    >>> round(float(value[0]), 4)
    1.3863
    """
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    targets = binary_targets(logits, labels, where)
    log_p = jax.nn.log_softmax(logits)
    # 1 - p cancels only where p > 1/2, so in one class at most; there it is the sum of the others.
    top = jax.nn.one_hot(logits.argmax(axis=1), logits.shape[1], dtype=bool)
    log_others = jax.nn.logsumexp(log_p, axis=1, where=~top, keepdims=True)
    log_1mp = jnp.where(top, log_others, jnp.log1p(-jnp.exp(jnp.where(top, -1, log_p))))
    values = -(targets * log_p + (1 - targets) * log_1mp)
    return keep_examples(values.sum(axis=1), where)


def sigmoid_bias_init(prior: float) -> float:
    """Bias of the last layer whose sigmoid is the prior, log(prior / (1 - prior)).

    A network of sigmoids starts with it, lest K - 1 easy negatives of each example drown the rest:
    1/K gives -log(K - 1). Leave this bias out of the weight decay.

    Args:
      prior: probability from 0 to 1, both excluded.

    Raises:
      ValueError: prior is not between 0 and 1.

    Source: Lin et al., ICCV 2017, section 4.1; Cui et al., CVPR 2019, with 1/K.

    >>> round(sigmoid_bias_init(1 / 5), 4)
    -1.3863
    """
    if not 0 < prior < 1:
        raise ValueError(f'prior must lie between 0 and 1, got {prior}')
    return math.log(prior) - math.log1p(-prior)
