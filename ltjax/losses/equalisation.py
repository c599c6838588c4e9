"""Cross-entropy in which the frequency of a class sets the scale, the rivals or the smoothing of its logits.

Vector scaling (VS), softmax equalization (SEQL) and label-aware smoothing (MiSLAS). What depends on the training counts
n_k is made once on the host in numpy float64; there a class without images counts like the smallest one that has some.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy import typing as npt

from ltjax.losses._arrays import (
    at_least_smallest,
    check_not_negative,
    checked_floats,
    checked_labels,
    class_array,
    keep_examples,
)
from ltjax.losses.classification import softmax_cross_entropy

Floats = npt.NDArray[np.float64]
Shape = Literal['concave', 'linear', 'convex', 'exp']


def vector_scales(counts: npt.ArrayLike | Sequence[int], *, gamma: float = 0.3) -> Floats:
    """Scale of each class's logit, D_k = (n_k / n_max)^gamma.

    Args:
      counts: [K] training images of each class.
      gamma: 0 scales nothing.

    Returns:
      [K], at most 1.

    Raises:
      ValueError: gamma is negative.

    Source: Kini et al., "Label-imbalanced and group-sensitive classification under overparameterization", NeurIPS 2021,
    the multiplicative parameter as in its released code, whose default gamma is 0.3.

    >>> vector_scales([16, 1], gamma=0.5).tolist()
    [1.0, 0.25]
    """
    check_not_negative(gamma=gamma)
    sizes = at_least_smallest(counts)
    return (sizes / sizes.max()) ** gamma


def vector_scaling(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    scales: ArrayLike,
    log_prior: ArrayLike,
    tau: float = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Vector-scaling loss, -log softmax(D z + tau log pi)_y: a factor and an offset for each class.

    The network that it trains is used at test time with its plain logits.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0.
      scales: [K] floating D, see `vector_scales`; 1 leaves logit adjustment.
      log_prior: [K] finite log class frequencies, see `samplers.log_prior`.
      tau: strength of the offsets; 0 leaves the class-dependent temperatures of CDT.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: Kini et al., NeurIPS 2021, the VS-loss without its class weights.

    >>> options = dict(scales=jnp.array([1.0, 0.5]), log_prior=jnp.zeros(2))
    >>> value = vector_scaling(jnp.array([[1.0, 2.0]]), jnp.array([0]), **options)
    >>> round(float(value[0]), 4)  # both scaled logits are 1
    0.6931
    """
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    scaled = class_array(scales, logits, name='scales') * logits
    offset = tau * class_array(log_prior, logits, name='log_prior')
    return softmax_cross_entropy(scaled + offset, labels, where=where)


def rare_classes(
    counts: npt.ArrayLike | Sequence[int], *, threshold: float
) -> npt.NDArray[np.bool_]:
    """Which classes are rare, n_k / N < threshold: [K] bool of counts [K], for `softmax_equalization`.

    >>> rare_classes([98, 2], threshold=0.05).tolist()
    [False, True]
    """
    sizes = at_least_smallest(counts)
    return sizes / sizes.sum() < threshold


def softmax_equalization(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    ignored: ArrayLike,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Softmax equalization loss (SEQL), -log(e^{z_y} / sum_k w_k e^{z_k}), w_k = 1 - ignored_k (1 - onehot(y)_k).

    A rival that is ignored leaves the denominator, so that images of other classes do not push rare ones down.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0.
      ignored: [batch, K] bool, beta_k T(n_k): the rare classes, see `rare_classes`, each drawn with probability gamma.
        The own class is never ignored.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example, and where all rivals are ignored.

    Raises:
      ValueError: `ignored` has another shape.

    Source: Tan et al., "Equalization loss for long-tailed object recognition", CVPR 2020, section 3.4.

    Reading: the text leaves open for what beta is drawn anew; a public port draws it for each image and class.

    >>> logits, ignored = jnp.zeros([1, 3]), jnp.array([[True, False, True]])
    >>> round(float(softmax_equalization(logits, jnp.array([0]), ignored=ignored)[0]), 4)
    0.6931
    """
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    labels = checked_labels(labels, logits.shape, where=where)
    ignored = jnp.asarray(ignored, bool)
    if ignored.shape != logits.shape:
        raise ValueError(f'ignored must have shape {list(logits.shape)}, got {list(ignored.shape)}')
    own = labels[:, None] == jnp.arange(logits.shape[1])[None, :]
    counted = own | ~ignored
    own_logits = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    values = jax.nn.logsumexp(logits, axis=1, where=counted) - own_logits
    return keep_examples(values, where)


def smoothing_factors(
    counts: npt.ArrayLike | Sequence[int],
    *,
    head: float = 0.3,
    tail: float = 0.0,
    shape: Shape = 'concave',
    power: float = 1.0,
) -> Floats:
    """Smoothing of each class's labels, from `tail` for the smallest class to `head` for the largest.

    With r = (n_k - n_min) / (n_max - n_min) and d = head - tail it is tail + d sin(pi r / 2) ('concave'),
    tail + d r ('linear'), head - d cos(pi r / 2) ('convex') or tail + d r^power ('exp').

    Args:
      counts: [K] training images of each class.
      head: of the largest class.
      tail: of the smallest, and of all classes if they are equally large.
      shape: see above.
      power: of 'exp'.

    Returns:
      [K].

    Raises:
      ValueError: head or tail is outside 0..1, power not positive, or the shape is unknown.

    Source: Zhong et al., "Improving calibration for long-tailed recognition" (MiSLAS), CVPR 2021, equation 4; names and
    default as in its released code.

    >>> smoothing_factors([101, 51, 1], head=0.4, tail=0.2, shape='linear').round(4).tolist()
    [0.4, 0.3, 0.2]
    """
    for name, value in (('head', head), ('tail', tail)):
        if not 0 <= value <= 1:
            raise ValueError(f'{name} must lie in 0..1, got {value}')
    if not power > 0:
        raise ValueError(f'power must be positive, got {power}')
    sizes = at_least_smallest(counts)
    rank = (sizes - sizes.min()) / (np.ptp(sizes) or 1)
    shares = {
        'concave': np.sin(np.pi * rank / 2),
        'linear': rank,
        'convex': 1 - np.cos(np.pi * rank / 2),
        'exp': rank**power,
    }
    if shape not in shares:
        raise ValueError(f'shape must be one of {", ".join(shares)}, got {shape!r}')
    return tail + (head - tail) * shares[shape]


def label_aware_smoothing(
    logits: ArrayLike, labels: ArrayLike, *, factors: ArrayLike, where: ArrayLike | None = None
) -> jax.Array:
    """Label-aware smoothing, cross-entropy with targets (1 - e_y) onehot(y) + e_y / K.

    Args:
      logits: [batch, K].
      labels: [batch] int, classes from 0.
      factors: [K] floating e from 0 to 1, see `smoothing_factors`; 0 is the plain cross-entropy.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: Zhong et al. (MiSLAS), CVPR 2021, equation 3.

    Reading: the paper spreads e_y over the K - 1 other classes; its released code, and so we, over all K.

    >>> value = label_aware_smoothing(
    ...     jnp.array([[2.0, 0.0]]), jnp.array([0]), factors=jnp.array([0.5, 0.0])
    ... )
    >>> round(float(value[0]), 4)
    0.6269
    """
    logits = checked_floats(logits, (None, None), name='logits', where=where)
    labels = checked_labels(labels, logits.shape, where=where)
    smoothing = class_array(factors, logits, name='factors')[0, labels]
    log_p = jax.nn.log_softmax(logits)
    own = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    return keep_examples(-((1 - smoothing) * own + smoothing * log_p.mean(axis=1)), where)
