"""Losses that take the training set's label distribution out of the logits (LADE).

Values are one scalar a batch: expectations over it stand where a formula has those over images.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import checked_floats, checked_labels, class_array, keep_examples


def lade_regulariser(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    log_prior: ArrayLike,
    penalty: float = 0.1,
    importance: Literal['classes', 'examples'] = 'classes',
    where: ArrayLike | None = None,
) -> jax.Array:
    """LADER, sum_k pi_k (-m_k + s_k + penalty s_k^2), which draws each logit to log p_u(x|k) / p_u(x).

    m_k is the mean of z_k over the batch's images of class k and s_k = log mean_i r_i e^{z_ik} over all its images: the
    Donsker-Varadhan bound of class k, its second term held near 0. r makes the label distribution uniform.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0; a class that is absent has m_k = 0.
      log_prior: [K] log pi, finite and of sum 1 once exponentiated, see `samplers.log_prior`.
      penalty: lambda, of the squared second term.
      importance: 'classes' has r = 1 / (K pi_k), of the logit's class; 'examples' 1 / (K pi_y), of the image's.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      Scalar; 0 with zero gradient if nothing counts.

    Raises:
      ValueError: `importance` is something else.

    Source: Hong et al., "Disentangling label distribution for long-tailed visual recognition" (LADE), CVPR 2021,
    section 3.3; added to balanced softmax (its PC softmax loss) with weight alpha = 0.1.

    Reading: sampling from the training set to estimate an expectation over uniform labels weighs images by their own
    label ('examples'). The released code, and so the default, divides by the prior of the logit's class.

    >>> options = dict(log_prior=jnp.log(jnp.array([0.5, 0.5])), penalty=1.0)
    >>> value = lade_regulariser(jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([0, 1]), **options)
    >>> float(value)  # m = (1, 0), s = (1, 0)
    0.5
    """
    if importance not in ('classes', 'examples'):
        raise ValueError(f"importance must be 'classes' or 'examples', got {importance!r}")
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    batch, num_classes = logits.shape
    labels = checked_labels(labels, logits.shape, where=where)
    log_prior = class_array(log_prior, logits, name='log_prior')
    onehot = keep_examples(jax.nn.one_hot(labels, num_classes, dtype=logits.dtype), where)
    own = (onehot * logits).sum(axis=0) / jnp.maximum(onehot.sum(axis=0), 1)

    counts = jnp.ones(batch, bool) if where is None else jnp.asarray(where, bool)
    number = jnp.maximum(counts.sum(), 1).astype(logits.dtype)
    rows = log_prior if importance == 'classes' else log_prior[0, labels][:, None]
    weighted = logits - rows - math.log(num_classes)
    # A row that counts keeps the sum of nothing finite.
    counted = counts[:, None] | ~counts.any()
    second = jax.nn.logsumexp(weighted, axis=0, where=counted) - jnp.log(number)
    terms = jnp.exp(log_prior[0]) * (second + penalty * jnp.square(second) - own)
    return jnp.where(counts.any(), terms.sum(), 0)
