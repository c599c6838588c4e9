"""Contrastive losses of the rows of a batch: SupCon, SimCLR, and AdUni's classifier term.

Rows of `features` are unit vectors, one for each view of each image: flatten two views to [2B, D]
and repeat the labels. Every row is an anchor and a candidate of all the others, and every loss
returns one value for each anchor, 0 with zero gradient where an anchor has no positive; such an
anchor counts in a mean over the batch. The sets are those of the global batch. `parametric` has
the losses in which class logits are candidates too.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import ANY_LABEL, check_positive, checked_floats, checked_labels
from ltjax.losses._contrast import (
    Positives,
    counted_rows,
    masked_contrast,
    other_rows,
    similarities,
)


def supervised_contrastive(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: float = 0.1,
    base_temperature: float | None = 0.07,
    positives: Positives = 'mean',
    where: ArrayLike | None = None,
) -> jax.Array:
    """Supervised contrastive loss (SupCon): draws rows of one class together.

    l_i = -(T / T0) 1/|P(i)| sum_{p in P(i)} log(e^{f_i.f_p / T} / sum_{j != i} e^{f_i.f_j / T}),
    where P(i) are the other rows of the class of i.

    Args:
      features: [n, D] unit vectors, a row for each view of each image.
      labels: [n] int, classes from 0; the label of a masked row may be anything.
      temperature: T.
      base_temperature: T0; None leaves the factor T / T0 out.
      positives: 'sum' leaves the division by |P(i)| out.
      where: [n] bool, True for the rows that count, as anchors and as candidates; None counts all.

    Returns:
      [n], a value for each anchor: average the first B of them for anchors of the first view only.
      0 for an anchor without a positive, which still counts in a mean, and for a masked one.

    Raises:
      ValueError: another dtype or shape, a temperature that is not positive, or an unknown option.

    Source: Khosla et al., "Supervised contrastive learning", NeurIPS 2020, equation 2; Cong et al.,
    "Adaptive unified contrastive learning for imbalanced classification" (AdUni), MLMI 2022,
    equation 1 with positives='sum' and base_temperature=None.

    Reading: the factor T / T0 with a fixed T0 = 0.07 is in the released code of both, not in the
    equations. AdUni prints exp(.)/T, from which T would cancel: exp(. / T) is meant.

    >>> features = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> values = supervised_contrastive(
    ...     features, jnp.array([0, 0, 1]), temperature=1.0, base_temperature=None
    ... )
    >>> [round(float(v), 4) for v in values]
    [0.3133, 0.3133, 0.0]
    """
    check_positive(temperature=temperature, base_temperature=base_temperature)
    features = checked_floats(features, (None, None), name='features', where=where)
    batch = len(features)
    labels = checked_labels(labels, (batch, ANY_LABEL), where=where)
    counted = counted_rows(where, batch, 'where')
    candidates = other_rows(counted, counted)
    same = candidates & (labels[:, None] == labels[None, :])
    values = masked_contrast(
        similarities(features, features, temperature),
        same.astype(features.dtype),
        candidates.astype(features.dtype),
        over_positives=positives,
    )
    return values if base_temperature is None else values * (temperature / base_temperature)


def nt_xent(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: float = 0.5,
    base_temperature: float | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Normalised temperature-scaled cross-entropy (SimCLR): draws views of one image together.

    l_i = -log(e^{f_i.f_p / T} / sum_{j != i} e^{f_i.f_j / T}), p the other view of the image of i;
    the mean over them if there are several.

    Args:
      features: [n, D] unit vectors, a row for each view of each image.
      labels: [n] int from 0, the image that a row is a view of; with two views stacked one after
        the other `jnp.tile(jnp.arange(B), 2)`.
      temperature: T.
      base_temperature: T0 of a factor T / T0, as `supervised_contrastive` has it; None has none.
      where: [n] bool, True for the rows that count, as anchors and as candidates; None counts all.

    Returns:
      [n], a value for each anchor; 0 for an anchor without another view and for a masked one.

    Raises:
      ValueError: another dtype or shape, or a temperature that is not positive.

    Source: Chen et al., "A simple framework for contrastive learning of visual representations"
    (SimCLR), ICML 2020, equation 1.

    >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    >>> values = nt_xent(features, jnp.array([0, 1, 0, 1]), temperature=1.0)
    >>> [round(float(v), 4) for v in values]
    [0.5514, 0.5514, 0.5514, 0.5514]
    """
    return supervised_contrastive(
        features, labels, temperature=temperature, base_temperature=base_temperature, where=where
    )


def classifier_contrastive(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: float = 0.1,
    positives: Positives = 'sum',
    where: ArrayLike | None = None,
) -> jax.Array:
    """Contrast of class logits with one-hot labels, -|P(i)| log softmax(z_i / T)_{y_i}.

    P(i) are the other rows of the class of i, each of which has the same one-hot label.

    Args:
      logits: [n, K], a row for each view of each image.
      labels: [n] int, classes from 0.
      temperature: T.
      positives: 'mean' divides by |P(i)|: the cross-entropy of z / T.
      where: [n] bool, True for the rows that count; None counts all.

    Returns:
      [n], a value for each anchor; 0 for an anchor without a positive and for a masked one.

    Raises:
      ValueError: another dtype or shape, a temperature that is not positive, or an unknown option.

    Source: Cong et al. (AdUni), MLMI 2022, equation 2.

    Reading: exp(.)/T is read as exp(. / T), as in equation 1. The released code has no such term of
    its own, only the joint one.

    >>> logits = jnp.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    >>> [round(float(v), 4) for v in classifier_contrastive(logits, jnp.array([0, 0, 0]))]
    [1.3863, 1.3863, 1.3863]
    """
    check_positive(temperature=temperature)
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    batch, num_classes = logits.shape
    labels = checked_labels(labels, logits.shape, where=where)
    counted = counted_rows(where, batch, 'where')
    same = other_rows(counted, counted) & (labels[:, None] == labels[None, :])
    own_class = jax.nn.one_hot(labels, num_classes, dtype=logits.dtype)
    weights = own_class * same.sum(axis=1, dtype=logits.dtype)[:, None]
    return masked_contrast(
        logits / temperature, weights, jnp.ones_like(logits), over_positives=positives
    )
