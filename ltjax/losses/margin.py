"""Losses that shift each logit by the size of its class, then take the softmax cross-entropy.

Margins (LDAM), Gaussian clouds (GCL) and the seesaw loss. The first two work on the logits of a
cosine head, cos = (x / |x|) . (w_k / |w_k|), which they multiply by a scale after the shift. What
depends on the training counts n_k is made once on the host in numpy float64; there a class without
images counts like the smallest one that has some.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy import typing as npt

from ltjax.losses._arrays import (
    at_least_smallest,
    checked_floats,
    checked_labels,
    class_array,
    keep_examples,
)
from ltjax.losses.classification import softmax_cross_entropy
from ltjax.losses.focal import softmax_focal

Floats = npt.NDArray[np.float64]


def ldam_margins(counts: npt.ArrayLike | Sequence[int], *, max_margin: float = 0.5) -> Floats:
    """Margins that grow with rarity, m_k = max_margin n_k^(-1/4) / max_j n_j^(-1/4).

    Args:
      counts: [K] training images of each class.
      max_margin: margin of the smallest class.

    Returns:
      [K] margins.

    Source: Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss",
    NeurIPS 2019, section 3.2, its constant set by max_margin as in the released code.

    >>> ldam_margins([16, 1]).tolist()
    [0.25, 0.5]
    """
    sizes = at_least_smallest(counts)
    return max_margin * (sizes.min() / sizes) ** 0.25


def _onehot(labels: ArrayLike, logits: jax.Array, where: ArrayLike | None) -> jax.Array:
    labels = checked_labels(labels, logits.shape, where=where)
    return jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)


def ldam(
    cosine: ArrayLike,
    labels: ArrayLike,
    *,
    margins: ArrayLike,
    scale: float = 30.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Label-distribution-aware margin loss, -log softmax(scale (cos - m_y onehot(y)))_y.

    Deferred re-weighting (LDAM-DRW) is its `weighted_mean` with `effective_number_weights` of the
    labels from a late epoch on.

    Args:
      cosine: [batch, K] logits of a cosine head.
      labels: [batch] int, classes from 0.
      margins: [K] floating, see `ldam_margins`; 0 is the cross-entropy of scale cos.
      scale: multiplies the margin too.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: Cao et al., NeurIPS 2019, section 3.2; the scale as in its released code.

    >>> cosine, margins = jnp.zeros([1, 2]), jnp.array([0.5, 0.5])
    >>> value = ldam(cosine, jnp.array([0]), margins=margins, scale=1.0)
    >>> round(float(value[0]), 4)
    0.9741
    """
    cosine = checked_floats(cosine, (None, None), name='cosine', where=where)
    shift = _onehot(labels, cosine, where) * class_array(margins, cosine, name='margins')
    return softmax_cross_entropy(scale * (cosine - shift), labels, where=where)


def cloud_sizes(counts: npt.ArrayLike | Sequence[int]) -> Floats:
    """Cloud size of each class, d_k = log(n_max / n_k) / log(n_max / n_min): [K] of counts [K].

    From 0 (the largest class) to 1 (the smallest); all 0 if the classes are equally large.

    Source: Li et al., "Long-tailed visual recognition via Gaussian clouded logit adjustment",
    CVPR 2022, normalised as in its released code.

    >>> cloud_sizes([100, 10, 1]).tolist()
    [0.0, 0.5, 1.0]
    """
    sizes = at_least_smallest(counts)
    rarity = np.log(sizes.max() / sizes)
    return rarity / (rarity.max() or 1)


def gaussian_clouded(
    cosine: ArrayLike,
    labels: ArrayLike,
    *,
    noise: ArrayLike,
    cloud_size: ArrayLike,
    noise_scale: float = 0.5,
    margin: float = 0.0,
    scale: float = 30.0,
    gamma: float = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Gaussian clouded logits (GCL), focal loss of scale (cos - a |e| d - margin onehot(y)).

    e is the noise clipped to -1..1, a the noise scale, d the cloud size: every class's logit is
    lowered at random, rare classes' most. No noise at test time.

    Args:
      cosine: [batch, K] logits of a cosine head.
      labels: [batch] int, classes from 0.
      noise: [batch, K] fresh normal draws of standard deviation 1/3, such as
        `jax.random.normal(key, shape) / 3`.
      cloud_size: [K] floating, see `cloud_sizes`.
      noise_scale: a.
      margin: subtracted from the cosine of the true class.
      scale: multiplies the shifted cosines.
      gamma: focusing parameter of the focal loss, its factor a constant for the gradient; 0 is the
        cross-entropy.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: gamma is negative.

    Source: Li et al., CVPR 2022, the clouded logits. The defaults are its first stage; the second
    is margin 0.1, scale 20, gamma 1.

    Reading: clip, standard deviation and focal factor are those of the released code.

    >>> cosine, noise, size = jnp.zeros([1, 2]), jnp.ones([1, 2]), jnp.array([0.0, 1.0])
    >>> options = dict(noise=noise, cloud_size=size, scale=2.0)
    >>> value = gaussian_clouded(cosine, jnp.array([1]), **options)
    >>> round(float(value[0]), 4)
    1.3133
    """
    cosine = checked_floats(cosine, (None, None), name='cosine', where=where)
    size = class_array(cloud_size, cosine, name='cloud_size')
    cloud = noise_scale * size * _magnitude(noise, cosine, where)
    shifted = cosine - cloud - margin * _onehot(labels, cosine, where)
    return softmax_focal(scale * shifted, labels, gamma=gamma, detach_factor=True, where=where)


def _magnitude(noise: ArrayLike, cosine: jax.Array, where: ArrayLike | None) -> jax.Array:
    noise = checked_floats(noise, cosine.shape, name='noise', where=where).astype(cosine.dtype)
    return jnp.abs(jnp.clip(noise, -1, 1))


def gaussian_clouded_angular(
    cosine: ArrayLike,
    labels: ArrayLike,
    *,
    noise: ArrayLike,
    cloud_size: ArrayLike,
    noise_scale: float = 0.1,
    margin: float = 0.5,
    scale: float = 30.0,
    easy_margin: bool = False,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Clouds on the angles: cross-entropy of scale cos(theta + phi), theta = arccos(cos).

    phi = (pi/2) noise_scale d |e| + margin onehot(y), with d and e as in `gaussian_clouded`. Where
    theta + phi passes pi, cos - sin(pi - phi) takes the place of cos(theta + phi).

    Args:
      cosine: [batch, K] logits of a cosine head, from -1 to 1.
      labels: [batch] int, classes from 0.
      noise: [batch, K] fresh normal draws of standard deviation 1/3.
      cloud_size: [K] floating, see `cloud_sizes`.
      noise_scale: of the quarter turn that the largest cloud may reach.
      margin: angle added for the true class.
      scale: multiplies the shifted cosines.
      easy_margin: leaves cosines that are not positive as they are.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: Li et al., "Adjusting logit in Gaussian form for long-tailed visual recognition",
    IEEE Transactions on Artificial Intelligence 2024.

    Reading: the constants and the continuation beyond pi follow the released code.

    >>> options = dict(noise=jnp.ones([1, 2]), cloud_size=jnp.zeros(2), margin=jnp.pi / 6)
    >>> value = gaussian_clouded_angular(jnp.array([[0.5, 0.0]]), jnp.array([0]), **options)
    >>> round(float(value[0]), 4)  # both cosines are 0 then
    0.6931
    """
    cosine = checked_floats(cosine, (None, None), name='cosine', where=where)
    size = class_array(cloud_size, cosine, name='cloud_size')
    turn = math.pi / 2 * noise_scale * size * _magnitude(noise, cosine, where)
    turn = turn + margin * _onehot(labels, cosine, where)
    squared_sine = 1 - cosine**2
    inside = squared_sine > 0  # a root has no gradient at 0, and rounding may pass 1
    sine = jnp.where(inside, jnp.sqrt(jnp.where(inside, squared_sine, 1)), 0)
    turned = cosine * jnp.cos(turn) - sine * jnp.sin(turn)
    if easy_margin:
        shifted = jnp.where(cosine > 0, turned, cosine)
    else:
        shifted = jnp.where(cosine > -jnp.cos(turn), turned, cosine - jnp.sin(turn))
    return softmax_cross_entropy(scale * shifted, labels, where=where)


def accumulated_counts(
    counts: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Running class counts after a batch, c_k + (examples of class k in the batch).

    Args:
      counts: [K] counts so far, zeros at the start; int32, since float32 stops at 2^24.
      labels: [batch] int, classes from 0: the whole batch of all devices.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [K] in the dtype of counts.

    Source: Wang et al., "Seesaw loss for long-tailed instance segmentation", CVPR 2021, section
    3.2: the counts are those of the training so far.

    >>> accumulated_counts(jnp.array([5, 0]), jnp.array([1, 1, 0])).tolist()
    [6, 2]
    """
    counts, (batch,) = jnp.asarray(counts), jnp.shape(labels)
    labels = checked_labels(labels, (batch, len(counts)), where=where)
    return counts.at[labels].add(keep_examples(jnp.ones(batch, counts.dtype), where))


def seesaw(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    counts: ArrayLike,
    p: float = 0.8,
    q: float = 2.0,
    eps: float = 0.01,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Seesaw loss, cross-entropy of z_j + log(M_yj C_yj) for the classes j other than y.

    Mitigation M_ij = min(1, c_j / c_i)^p spares the smaller classes j the push of the examples of a
    larger class i; compensation C_ij = max(1, P_j / max(P_i, eps))^q, P = softmax(z), gives it back
    where j is mistaken for i. Both are constants for the gradient.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0.
      counts: [K] class counts c, the training set's or, as in the paper, running ones that include
        this batch, see `accumulated_counts`; 0 counts as 1.
      p: exponent of the mitigation; 0 leaves it out.
      q: exponent of the compensation; 0 leaves it out.
      eps: the least P_i that C divides by.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: Wang et al., CVPR 2021, section 3.2, without the objectness branch of detection.

    >>> counts = jnp.array([100, 1])
    >>> value = seesaw(jnp.zeros([1, 2]), jnp.array([0]), counts=counts, p=1.0)
    >>> round(float(value[0]), 4)  # log(1 + 1/100)
    0.01
    """
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    onehot = _onehot(labels, logits, where)
    log_counts = jnp.log(jnp.maximum(class_array(counts, logits, name='counts'), 1))
    own_count = (onehot * log_counts).sum(axis=1, keepdims=True)
    log_p = jax.nn.log_softmax(jax.lax.stop_gradient(logits))
    own_log_p = jnp.maximum((onehot * log_p).sum(axis=1, keepdims=True), math.log(eps))
    mitigation = p * jnp.minimum(log_counts - own_count, 0)
    compensation = q * jnp.maximum(log_p - own_log_p, 0)
    # For the true class both are 0: it has as many images as itself, and at most its probability.
    return softmax_cross_entropy(logits + mitigation + compensation, labels, where=where)
