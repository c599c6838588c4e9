"""BALMS meta sampler: class sampling rates learned through one step of the classifier.

The sampler has one logit psi_k for each class; a training example is drawn with a probability
proportional to sigmoid(psi_y). Its loss is that of a balanced batch after the classifier has made a
step on the examples drawn; the gradient reaches psi through a straight-through estimator.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from ltjax.losses._arrays import at_least_float32, checked_counts
from ltjax.losses.classification import softmax_cross_entropy

Apply = Callable[[Any, jax.Array], jax.Array]
ExampleLoss = Callable[[jax.Array, jax.Array], jax.Array]  # logits, labels -> [batch]
Examples = tuple[ArrayLike, ArrayLike]  # inputs, labels


class MetaSample(NamedTuple):
    """Examples drawn by the meta sampler.

    Attributes:
      indices: [draws] int32.
      weights: [draws] of value 1, whose gradient is that of the probability of what was drawn.
    """

    indices: jax.Array
    weights: jax.Array


def meta_sampler_probabilities(
    counts: ArrayLike | Sequence[int], *, power: float
) -> NDArray[np.float64]:
    """Probabilities that the sampler starts from, pi_k^-power / (min_j + max_j of these).

    Not normalised over the classes: the scale puts them symmetrically about one half.

    Args:
      counts: [K] training images of each class; a class without images counts as one with one.
      power: 0 gives 1/2 to every class, 1 the inverse frequencies.

    Returns:
      [K] between 0 and 1, computed on the host.

    Source: Ren et al., "Balanced meta-softmax for long-tailed visual recognition", NeurIPS 2020,
    released code.

    >>> meta_sampler_probabilities([3, 1], power=1.0).tolist()
    [0.25, 0.75]
    """
    # Relative to the largest class, so that no power overflows; the scale cancels.
    checked = np.maximum(checked_counts(counts), 1)
    weights = (checked.max() / checked) ** power
    return weights / (weights.min() + weights.max())


def meta_sampler_logits(counts: ArrayLike | Sequence[int], *, power: float) -> NDArray[np.float64]:
    """Logits psi that the sampler starts from, log(p / (1 - p)).

    Args:
      counts: [K] training images of each class.
      power: see `meta_sampler_probabilities`.

    Returns:
      [K], computed on the host.

    Source: Ren et al., NeurIPS 2020, released code.

    >>> meta_sampler_logits([3, 1], power=1.0).round(4).tolist()
    [-1.0986, 1.0986]
    """
    probabilities = meta_sampler_probabilities(counts, power=power)
    return np.log(probabilities / (1 - probabilities))


def meta_sample(sampler_logits: ArrayLike, labels: ArrayLike, uniform: ArrayLike) -> MetaSample:
    """Draws examples by the Gumbel-max trick, argmax_i log sigmoid(psi_{y_i}) - log(-log u_i).

    Args:
      sampler_logits: [K] psi.
      labels: [N] int, the examples to draw from.
      uniform: [draws, N] from 0 to 1, a row for each draw.

    Returns:
      The examples drawn, with replacement.

    Source: Ren et al., NeurIPS 2020, meta sampler; straight-through Gumbel-softmax at temperature
    1.

    >>> sample = meta_sample(jnp.zeros(2), jnp.array([0, 1]), jnp.array([[0.2, 0.7], [0.9, 0.1]]))
    >>> sample.indices.tolist(), sample.weights.tolist()
    ([1, 0], [1.0, 1.0])
    """
    sampler_logits = at_least_float32(sampler_logits)
    limits = jnp.finfo(sampler_logits.dtype)
    # A uniform number that was rounded to 0 or 1 would have an infinite Gumbel.
    uniform = jnp.clip(jnp.asarray(uniform, limits.dtype), limits.tiny, 1 - limits.epsneg)
    gumbel = -jnp.log(-jnp.log(uniform))
    scores = jax.nn.log_sigmoid(sampler_logits)[jnp.asarray(labels)][None, :] + gumbel
    indices = jnp.argmax(scores, axis=1).astype(jnp.int32)
    drawn = jnp.take_along_axis(jax.nn.log_softmax(scores, axis=1), indices[:, None], axis=1)
    probability = jnp.exp(drawn[:, 0])
    return MetaSample(indices, probability - jax.lax.stop_gradient(probability) + 1)


def inner_step(loss_fn: Callable[[Any], jax.Array], params: Any, learning_rate: ArrayLike) -> Any:
    """One plain gradient step that can be differentiated through, w - lr grad L(w).

    Args:
      loss_fn: params -> scalar.
      params: tree of floating arrays.
      learning_rate: scalar.

    Returns:
      A tree like params.

    Source: Ren et al., NeurIPS 2020, surrogate model of the meta sampler.

    Reading: without the momentum of the optimiser of the released code.

    >>> step = lambda a: inner_step(lambda w: a * w**2, 1.0, 0.25)
    >>> float(step(1.0)), float(jax.grad(step)(1.0))
    (0.5, -0.5)
    """
    gradients = jax.grad(loss_fn)(params)
    return jax.tree.map(lambda w, g: w - learning_rate * g, params, gradients)


def meta_sampler_loss(
    sampler_logits: ArrayLike,
    apply: Apply,
    params: Any,
    training: Examples,
    balanced: Examples,
    uniform: ArrayLike,
    *,
    learning_rate: ArrayLike = 0.1,
    inner_loss: ExampleLoss = softmax_cross_entropy,
) -> jax.Array:
    """Cross-entropy of a balanced batch after a step of the classifier on the examples drawn.

    psi -> CE(w - lr grad (1/draws) sum_b weight_b l_b(w)), to be minimised over psi.

    Args:
      sampler_logits: [K] psi.
      apply: (params, inputs) -> logits, the classifier.
      params: its tree of arrays w.
      training: inputs [N, ...] and labels [N] to draw from.
      balanced: inputs [batch, ...] and labels [batch] of a class-balanced batch.
      uniform: [draws, N], see `meta_sample`.
      learning_rate: of the inner step.
      inner_loss: l; balanced softmax is `logit_adjusted` with the training set's log prior.

    Returns:
      [batch], to be averaged.

    Source: Ren et al., NeurIPS 2020, meta sampler (bi-level problem); the sampler as in its
    released code.

    Reading: the inner step is plain gradient descent without momentum.

    >>> examples = jnp.eye(2), jnp.array([0, 1])
    >>> values = meta_sampler_loss(
    ...     jnp.zeros(2), lambda w, x: x @ w, jnp.zeros([2, 2]), examples, examples, jnp.ones([1, 2])
    ... )
    >>> [round(float(v), 4) for v in values]
    [0.6444, 0.6931]
    """
    inputs, labels = map(jnp.asarray, training)
    indices, weights = meta_sample(sampler_logits, labels, uniform)
    inputs, labels = inputs[indices], labels[indices]

    def drawn_loss(params: Any) -> jax.Array:
        return (weights * inner_loss(apply(params, inputs), labels)).mean()

    moved = inner_step(drawn_loss, params, learning_rate)
    inputs, labels = map(jnp.asarray, balanced)
    return softmax_cross_entropy(apply(moved, inputs), labels)
