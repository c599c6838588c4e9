"""DANIL: input gradients of the true class and of its distractor, pushed apart.

A model is a function inputs -> logits. In it each example must depend on its own input alone: batch
norm in evaluation mode.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import checked_floats, checked_labels, keep_examples
from ltjax.losses.classification import softmax_cross_entropy

Model = Callable[[jax.Array], jax.Array]


def response_maps(model: Model, inputs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Response map of a label, the gradient of -log p_label with respect to the input.

    Args:
      model: inputs -> logits.
      inputs: [batch, ...].
      labels: [batch] int, the class asked about, not necessarily the true one.

    Returns:
      Like the inputs.

    Source: Simonyan et al., "Deep inside convolutional networks", ICLR workshop 2014, with the
    cross-entropy in place of the class score.

    >>> response_maps(lambda x: x, jnp.zeros([1, 2]), jnp.array([0])).tolist()
    [[-0.5, 0.5]]
    """
    return jax.grad(lambda inputs: softmax_cross_entropy(model(inputs), labels).sum())(inputs)


def distractors(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Most probable wrong class, argmax_{k != y} z_k; the first one of several.

    Args:
      logits: [batch, K].
      labels: [batch] int.

    Returns:
      [batch] int32.

    Raises:
      ValueError: there is but one class.

    Source: DANIL, Gong et al., "Distractor-aware neuron intrinsic learning for generic 2D medical
    image classifications", MICCAI 2020.

    >>> distractors(jnp.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), jnp.array([0, 1])).tolist()
    [1, 0]
    """
    logits = checked_floats(logits, (None, None), name='logits')
    num_classes = logits.shape[1]
    if num_classes < 2:
        raise ValueError('logits must have at least 2 classes, or there is no distractor')
    labels = checked_labels(labels, logits.shape)
    is_label = jnp.arange(num_classes)[None, :] == labels[:, None]
    return jnp.argmax(jnp.where(is_label, -jnp.inf, logits), axis=1).astype(jnp.int32)


def distractor_distance(
    model: Model, inputs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Distance of the response maps of the true class and of its distractor, |R_y - R_d|.

    Args:
      model: inputs -> logits.
      inputs: [batch, ...].
      labels: [batch] int, classes from 0.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example and for equal response maps. The choice of
      the distractor has no gradient.

    Source: DANIL, Gong et al., MICCAI 2020.

    Reading: ours, and no evidence of fidelity: no code is public, and the details could not be
    checked against the paper. The response map is taken to be the input gradient of the cross-entropy.

    >>> distance = distractor_distance(lambda x: x, jnp.zeros([1, 2]), jnp.array([0]))
    >>> round(float(distance[0]), 4)
    1.4142
    """
    inputs = checked_floats(inputs, (None,) * max(jnp.ndim(inputs), 1), name='inputs', where=where)
    labels = keep_examples(jnp.asarray(labels), where)

    # R_y - R_d is the gradient of z_d - z_y, since both share the log-partition: one backward pass.
    def margin(inputs: jax.Array) -> jax.Array:
        logits = model(inputs)
        chosen = jnp.stack([distractors(logits, labels), labels.astype(jnp.int32)], axis=1)
        pair = jnp.take_along_axis(logits, chosen, axis=1)
        return (pair[:, 0] - pair[:, 1]).sum()

    difference = jax.grad(margin)(inputs)
    squared = jnp.square(difference).sum(axis=tuple(range(1, difference.ndim)))
    differs = squared > 0
    distance = jnp.where(differs, jnp.sqrt(jnp.where(differs, squared, 1)), 0)
    return keep_examples(distance, where)


def distractor_loss(
    model: Model,
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    eps: float = 1e-6,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Penalty on response maps that are alike, 1 / (|R_y - R_d| + eps).

    Added to the cross-entropy. Its gradient with respect to the weights goes through the input
    gradients: a double backward pass.

    Args:
      model: inputs -> logits.
      inputs: [batch, ...].
      labels: [batch] int, classes from 0.
      eps: bounds the penalty by 1 / eps.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Source: DANIL, Gong et al., MICCAI 2020.

    Reading: ours, and no evidence of fidelity: that the distance of the two maps is to grow is
    theirs, the reciprocal and eps are our guesses.

    >>> loss = distractor_loss(lambda x: x, jnp.zeros([1, 2]), jnp.array([0]), eps=0.0)
    >>> round(float(loss[0]), 4)
    0.7071
    """
    distance = distractor_distance(model, inputs, labels, where=where)
    return keep_examples(1 / (distance + eps), where)
