"""CC-SAM: sharpness-aware training with one perturbation for every class.

Stage 1 perturbs the classifier, stage 2 the features in front of it; in both the perturbation is a
constant for the gradient. `head(params, features) -> logits` is the classifier, its params any
pytree. Values are per example, but they depend on the other examples of the same class in the
batch. A masked example has the value 0 and influences no other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from numpy.typing import NDArray

from ltjax.losses._arrays import at_least_float32, checked_counts, checked_floats, keep_examples
from ltjax.losses.classification import softmax_cross_entropy

Head = Callable[[Any, jax.Array], jax.Array]
ExampleLoss = Callable[[jax.Array, jax.Array], jax.Array]  # logits, labels -> [batch]


def cc_sam_radii(
    counts: ArrayLike | Sequence[int], *, noise_ratio: float = 1e-6
) -> NDArray[np.float64]:
    """Radius of each class as far as it depends on its count, r / (sqrt(2) (n_k - 1)^(1/4)).

    Args:
      counts: [K] training images of each class.
      noise_ratio: r.

    Returns:
      [K], computed on the host.

    Source: Zhou et al., "Class-conditional sharpness-aware minimization for deep long-tailed
    recognition", CVPR 2023.

    Reading: a class with one image divides by zero in the paper and in its released code. It gets
    the radius of a class with two, the largest finite one, and so does a class without images.

    >>> cc_sam_radii([17, 2, 1], noise_ratio=2**0.5).round(4).tolist()
    [0.5, 1.0, 1.0]
    """
    return noise_ratio / np.sqrt(2) * np.maximum(checked_counts(counts) - 1, 1) ** -0.25


def cc_sam_perturbations(
    example_losses: Callable[[Any], jax.Array],
    params: Any,
    labels: ArrayLike,
    *,
    radii: ArrayLike,
    eps: float = 1e-12,
    where: ArrayLike | None = None,
) -> Any:
    """Perturbation of the classifier for each class, rho_k sqrt(P) g_k / |g_k|.

    rho_k = radii_k sqrt(|theta| / |g_k|) / P^(1/4), for each array of the classifier on its own;
    g_k is the gradient of the mean loss of the class's examples, |theta| the norm of all P
    parameters together.

    Args:
      example_losses: params -> [batch] values.
      params: tree of floating arrays.
      labels: [batch] int, the class whose mean each value enters.
      radii: [K], see `cc_sam_radii`.
      eps: added to the norms. A class that is absent from the batch, or whose gradient is zero, is
        not perturbed.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      A tree like params, in at least float32, with a leading axis of length K; a constant.

    Source: Zhou et al., CVPR 2023; norms and P as in its released code.

    >>> noise = cc_sam_perturbations(
    ...     lambda w: w * jnp.array([4.0, -4.0]), jnp.array(1.0), jnp.array([0, 1]), radii=jnp.ones(3)
    ... )
    >>> noise.tolist()
    [0.5, -0.5, 0.0]
    """
    params = jax.tree.map(at_least_float32, params)
    theta = optax.tree.norm(params) + eps
    radii = jnp.asarray(radii, theta.dtype)
    member = jnp.asarray(labels)[:, None] == jnp.arange(len(radii))[None, :]
    member = keep_examples(member.astype(theta.dtype), where)
    weights = member / jnp.maximum(member.sum(axis=0, keepdims=True), 1)

    def class_losses(params: Any) -> jax.Array:
        return (weights * keep_examples(example_losses(params), where)[:, None]).sum(axis=0)

    scale = radii * jnp.sqrt(theta) * optax.tree.size(params) ** 0.25

    def perturbation(gradient: jax.Array) -> jax.Array:
        norm = jax.vmap(optax.tree.norm)(gradient) + eps
        factor = scale / (norm * jnp.sqrt(norm))
        return gradient * factor.reshape(factor.shape + (1,) * (gradient.ndim - 1))

    return jax.lax.stop_gradient(jax.tree.map(perturbation, jax.jacrev(class_losses)(params)))


def cc_sam_perturbed_logits(
    head: Head, params: Any, perturbations: Any, features: ArrayLike, labels: ArrayLike
) -> jax.Array:
    """Logits of each example from the classifier perturbed for its class, head(w + e_y, f).

    Args:
      head: the classifier.
      params: its tree of arrays.
      perturbations: the same with a leading axis of length K, see `cc_sam_perturbations`.
      features: [batch, D].
      labels: [batch] int, classes from 0.

    Returns:
      [batch, K].

    Source: Zhou et al., CVPR 2023.

    >>> logits = cc_sam_perturbed_logits(
    ...     lambda w, f: f * w, 1.0, jnp.array([0.0, 1.0]), jnp.ones([2, 1]), jnp.array([1, 0])
    ... )
    >>> logits.ravel().tolist()
    [2.0, 1.0]
    """
    features, labels = jnp.asarray(features), jnp.asarray(labels)
    # All examples through every class's head: K small products, instead of a head per example.
    by_class = jax.vmap(lambda noise: head(optax.tree.add(params, noise), features))(perturbations)
    return by_class[labels, jnp.arange(len(labels))]


def cc_sam_head(
    head: Head,
    params: Any,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    radii: ArrayLike,
    flat_ratio: float = 0.3,
    plain_loss: ExampleLoss = softmax_cross_entropy,
    eps: float = 1e-12,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Stage 1: plain and sharpness-aware cross-entropy, (1 - a) l(w) + a CE(w + e_y).

    Args:
      head: the classifier; the backbone in front of it is not perturbed.
      params: its tree of arrays.
      features: [batch, D].
      labels: [batch] int, classes from 0.
      radii: [K], see `cc_sam_radii`.
      flat_ratio: a.
      plain_loss: l, which also gives the class gradients; with mixup the mixed loss, while the
        perturbed term keeps the first label.
      eps: see `cc_sam_perturbations`.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch], to be averaged; 0 with zero gradient for a masked example.

    Source: Zhou et al., CVPR 2023, stage 1; a = 0.3 and mixup as in its released code.

    >>> def head(weight, features):
    ...     return features @ weight
    >>> features, labels = jnp.eye(2), jnp.array([0, 1])
    >>> values = cc_sam_head(head, jnp.zeros([2, 2]), features, labels, radii=jnp.ones(2))
    >>> [round(float(v), 4) for v in values]
    [0.6931, 0.6931]
    """
    features = checked_floats(features, (None, None), name='features', where=where)
    labels = keep_examples(jnp.asarray(labels), where)

    logits = head(params, features)
    radii = checked_floats(jnp.asarray(radii, features.dtype), logits.shape[1:], name='radii')
    constant = jax.lax.stop_gradient(features)
    noise = cc_sam_perturbations(
        lambda params: plain_loss(head(params, constant), labels),
        params,
        labels,
        radii=radii,
        eps=eps,
        where=where,
    )
    perturbed = cc_sam_perturbed_logits(head, params, noise, features, labels)
    flat = softmax_cross_entropy(perturbed, labels)
    return keep_examples((1 - flat_ratio) * plain_loss(logits, labels) + flat_ratio * flat, where)


def cc_sam_class_weights(
    counts: ArrayLike | Sequence[int], *, divisor: float = 2.0
) -> NDArray[np.float64]:
    """Weight of each class in stage 2, v_k = log(n_max / n_k + 0.01) / divisor.

    Args:
      counts: [K] training images of each class; a class without images counts as one with one.
      divisor: 2 in the released code.

    Returns:
      [K], computed on the host.

    Source: Zhou et al., CVPR 2023, released code.

    >>> cc_sam_class_weights([100, 1]).round(4).tolist()
    [0.005, 2.3026]
    """
    checked = np.maximum(checked_counts(counts), 1)
    return np.log(checked.max() / checked + 0.01) / divisor


def cc_sam_feature_shift(
    head: Callable[[jax.Array], jax.Array],
    features: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike,
    scale: float = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Shift of the features of each class uphill, scale v_k G_k / |G_k|_F.

    G_k is the gradient of the class's mean loss with respect to the features of its examples.

    Args:
      head: features -> logits.
      features: [batch, D].
      labels: [batch] int, classes from 0.
      class_weights: [K] v, see `cc_sam_class_weights`.
      scale: of all shifts.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch, D], a constant; zero for a class whose gradient is zero.

    Source: Zhou et al., CVPR 2023, stage 2.

    >>> shift = cc_sam_feature_shift(
    ...     lambda f: f, jnp.zeros([1, 2]), jnp.array([0]), class_weights=jnp.ones(2)
    ... )
    >>> [round(float(v), 4) for v in shift.ravel()]
    [-0.7071, 0.7071]
    """
    features = checked_floats(features, (None, None), name='features', where=where)
    labels = keep_examples(jnp.asarray(labels), where)
    # The 1/n of the class mean cancels in the normalisation, so one sum serves all classes.
    gradient = jax.grad(lambda f: softmax_cross_entropy(head(f), labels, where=where).sum())(
        features
    )
    weights = jnp.asarray(class_weights, gradient.dtype)
    squared = jnp.zeros_like(weights).at[labels].add(jnp.square(gradient).sum(axis=1))
    factor = scale * weights / jnp.sqrt(jnp.where(squared > 0, squared, 1))
    return jax.lax.stop_gradient(factor[labels][:, None] * gradient)


def cc_sam_features(
    head: Callable[[jax.Array], jax.Array],
    features: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike,
    alpha: ArrayLike,
    scale: float = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Stage 2: cross-entropy of shifted and plain features, a v_y CE(f + shift) + (1 - a) CE(f).

    Args:
      head: features -> logits.
      features: [batch, D] of the frozen backbone, drawn class by class.
      labels: [batch] int, classes from 0.
      class_weights: [K] v, see `cc_sam_class_weights`.
      alpha: a, see `schedules.cc_sam_coefficient`.
      scale: see `cc_sam_feature_shift`.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch], to be averaged; 0 with zero gradient for a masked example.

    Source: Zhou et al., CVPR 2023, stage 2.

    >>> values = cc_sam_features(
    ...     lambda f: f, jnp.zeros([1, 2]), jnp.array([0]), class_weights=jnp.ones(2), alpha=0.0
    ... )
    >>> round(float(values[0]), 4)
    0.6931
    """
    features = checked_floats(features, (None, None), name='features', where=where)
    labels = keep_examples(jnp.asarray(labels), where)
    shift = cc_sam_feature_shift(
        head, features, labels, class_weights=class_weights, scale=scale, where=where
    )
    logits = head(features)
    weights = jnp.asarray(class_weights, features.dtype)
    weights = checked_floats(weights, logits.shape[1:], name='class_weights')
    plain = softmax_cross_entropy(logits, labels, where=where)
    shifted = softmax_cross_entropy(head(features + shift), labels, where=where)
    alpha = jnp.asarray(alpha, plain.dtype)
    return alpha * weights[labels] * shifted + (1 - alpha) * plain
