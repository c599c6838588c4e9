"""Contrastive losses in which classes and rows compete in one softmax: PaCo and AdUni's AduC.

Rows of `features` are unit vectors, one for each view of each image: flatten two views to [2B, D]
and repeat the labels. A value for each anchor is returned; an anchor without another row of its
class has its class as the only positive. The sets are those of the global batch.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import (
    check_not_negative,
    check_positive,
    checked_floats,
    checked_labels,
    class_array,
    keep_examples,
)
from ltjax.losses._contrast import (
    Positives,
    counted_rows,
    masked_contrast,
    other_rows,
    similarities,
)


def parametric_contrastive(
    logits: ArrayLike,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    log_prior: ArrayLike | None = None,
    keys: ArrayLike | None = None,
    key_labels: ArrayLike | None = None,
    key_where: ArrayLike | None = None,
    alpha: ArrayLike = 0.05,
    beta: ArrayLike = 1.0,
    gamma: ArrayLike = 1.0,
    temperature: float = 0.2,
    class_temperature: float = 1.0,
    positives: Positives = 'mean',
    epsilon: float = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Parametric contrastive loss (PaCo): classes and rows compete in one softmax.

    With b_ic = (z_ic + log pi_c) / S, a_ij = f_i.r_j / T over the rows r (the anchors, then the
    keys), D_i = log(sum_c e^{b_ic} + gamma sum_{j != i} e^{a_ij}) and P(i) the other rows of the
    class of i: l_i = -[beta (b_iy - D_i) + alpha sum_{p in P(i)} (a_ip - D_i)] / (beta + alpha |P(i)|).

    Args:
      logits: [n, K] of the anchors.
      features: [n, D] unit vectors of the anchors.
      labels: [n] int, classes from 0.
      log_prior: [K] finite log class frequencies, see `samplers.log_prior`; None adds nothing.
      keys: [m, D] further unit vectors, which are no anchors: the key encoder's view of the batch
        and the queue. In training they are constants: stop their gradient.
      key_labels: [m] int, classes from 0.
      key_where: [m] bool, False for unfilled slots of a queue and keys of masked images.
      alpha: weight of a row of the same class.
      beta: weight of the own class.
      gamma: weight of the rows in the denominator.
      temperature: T of the rows.
      class_temperature: S of the class logits (`supt` in the released code).
      positives: 'sum' takes beta once for each of P(i) and leaves the division out.
      epsilon: e >= 0; adds e times the largest e^{a_ij} or e^{b_ic}, i itself included, to the
        denominator, where the released code has 1e-12. It matters below T = 0.1 only.
      where: [n] bool, True for the rows that count, as anchors and as candidates; None counts all.

    Returns:
      [n], a value for each anchor; 0 for a masked one.

    Raises:
      ValueError: another dtype or shape, keys without labels, a temperature that is not positive, a
        negative weight, or an unknown option.

    Source: Cui et al., "Parametric contrastive learning", ICCV 2021, the PaCo loss.

    Reading: log prior, class temperature, beta and gamma are those of the released code; the
    paper's loss has beta = gamma = S = 1.

    >>> values = parametric_contrastive(
    ...     jnp.zeros([1, 2]), jnp.array([[1.0, 0.0]]), jnp.array([0]), alpha=1.0, temperature=1.0,
    ...     keys=jnp.array([[0.0, 1.0], [0.0, 1.0]]), key_labels=jnp.array([0, 1])
    ... )
    >>> round(float(jnp.exp(-values[0])), 4)
    0.25
    """
    check_positive(temperature=temperature, class_temperature=class_temperature)
    check_not_negative(alpha=alpha, beta=beta, gamma=gamma, epsilon=epsilon)
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    batch, num_classes = logits.shape
    features = checked_floats(features, (batch, None), name='features', where=where)
    labels = checked_labels(labels, logits.shape, where=where)
    anchors = counted_rows(where, batch, 'where')
    rows, row_labels, counted = features, labels, anchors
    if (keys is None) != (key_labels is None):
        raise ValueError('keys and key_labels must be given together')
    if keys is not None and key_labels is not None:
        keys = checked_floats(keys, (None, rows.shape[1]), name='keys', where=key_where)
        known = counted_rows(key_where, len(keys), 'key_where')
        shape = len(keys), num_classes
        key_labels = checked_labels(key_labels, shape, name='key_labels', where=key_where)
        rows = jnp.concatenate([rows, keys])
        row_labels = jnp.concatenate([row_labels, key_labels])
        counted = jnp.concatenate([counted, known])

    if log_prior is not None:
        logits = logits + class_array(log_prior, logits, name='log_prior')
    columns = jnp.concatenate(
        [logits / class_temperature, similarities(features, rows, temperature)], axis=1
    )
    others = other_rows(anchors, counted)
    same = (others & (labels[:, None] == row_labels[None, :])).astype(columns.dtype)
    own_class = jax.nn.one_hot(labels, num_classes, dtype=columns.dtype)
    if positives == 'sum':
        own_class = own_class * same.sum(axis=1)[:, None]
    weights = jnp.concatenate([beta * own_class, alpha * same], axis=1)
    candidates = jnp.concatenate(
        [jnp.ones_like(logits), gamma * others.astype(columns.dtype)], axis=1
    )
    log_epsilon = None
    if epsilon:
        known = jnp.concatenate([jnp.ones(num_classes, bool), counted])
        largest = jnp.where(known[None, :], columns, -jnp.inf).max(axis=1)
        log_epsilon = jax.lax.stop_gradient(largest) + math.log(epsilon)
    return masked_contrast(
        columns,
        keep_examples(weights, where),
        candidates,
        over_positives=positives,
        log_epsilon=log_epsilon,
    )


def adaptive_unified_contrastive(
    logits: ArrayLike,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    log_prior: ArrayLike | None = None,
    alpha: ArrayLike = 1.0,
    beta: ArrayLike = 1.0,
    temperature: float = 0.1,
    class_temperature: float = 1.0,
    base_temperature: float | None = 0.07,
    positives: Positives = 'mean',
    where: ArrayLike | None = None,
) -> jax.Array:
    """Adaptive unified contrastive loss (AduC): PaCo over the batch alone, alpha by a schedule.

    l_i = T / T0 times the PaCo loss of `parametric_contrastive` without keys, gamma = 1.

    Args:
      logits: [n, K], a row for each view of each image.
      features: [n, D] unit vectors of the same views.
      labels: [n] int, classes from 0.
      log_prior: [K] finite log class frequencies, see `samplers.log_prior`; None adds nothing.
      alpha: weight of a row of the same class; falls while training, and may be traced.
      beta: weight of the own class.
      temperature: T of the rows.
      class_temperature: S of the class logits.
      base_temperature: T0; None leaves the factor T / T0 out.
      positives: 'mean' takes beta once and divides by beta + alpha |P(i)|; 'sum' takes beta once
        for each of P(i) and leaves the division out.
      where: [n] bool, True for the rows that count, as anchors and as candidates; None counts all.

    Returns:
      [n], a value for each anchor; 0 for a masked one.

    Raises:
      ValueError: another dtype or shape, a temperature that is not positive, a negative weight, or
        an unknown option.

    Source: Cong et al. (AdUni), MLMI 2022, section 2.2, the equation of L_AduC.

    Reading: the default is the released code. The printed equation is log_prior=None,
    base_temperature=None, positives='sum' and class_temperature=T, with exp(. / T) for exp(.)/T.

    >>> features, labels = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([0, 0])
    >>> values = adaptive_unified_contrastive(
    ...     jnp.zeros([2, 2]), features, labels, alpha=0.0, temperature=1.0, base_temperature=None
    ... )
    >>> [round(float(v), 4) for v in jnp.exp(values) - jnp.e]
    [2.0, 2.0]
    """
    check_positive(base_temperature=base_temperature)
    values = parametric_contrastive(
        logits,
        features,
        labels,
        log_prior=log_prior,
        alpha=alpha,
        beta=beta,
        temperature=temperature,
        class_temperature=class_temperature,
        positives=positives,
        where=where,
    )
    return values if base_temperature is None else values * (temperature / base_temperature)
