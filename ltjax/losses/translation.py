"""M2m: images of minor classes made from images of major ones, by optimising the pixels.

Models are functions images -> logits, in evaluation mode (so that an image's result depends on that
image alone), which take pixels from 0 to 1 and normalise them themselves.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from ltjax.losses._arrays import checked_counts, checked_floats
from ltjax.losses.classification import softmax_cross_entropy

Model = Callable[[jax.Array], jax.Array]


def m2m_start(key: jax.Array, images: ArrayLike, *, radius: float = 0.5) -> jax.Array:
    """Random start of the translation: adds a little uniform noise, clip(x + u, 0, 1).

    Args:
      key: random key.
      images: [batch, ..., channels] pixels from 0 to 1.
      radius: the noise is drawn from [-radius, radius]; each channel of it, over the whole batch,
        is then scaled down to a Euclidean length of at most radius.

    Returns:
      Images of the same shape, from 0 to 1.

    Raises:
      ValueError: the images are not floating.

    Source: Kim et al., "M2m: imbalanced classification via major-to-minor translation", CVPR 2020,
    released code.

    Reading: the scale by the channel of a whole batch, rather than by the image, is the released
    code's; we keep it.

    >>> start = m2m_start(jax.random.key(0), jnp.full([2, 4, 4, 1], 0.5), radius=0.1)
    >>> round(float(jnp.linalg.norm(start - 0.5)), 4)
    0.1
    """
    images = checked_floats(images, (None,) * jnp.ndim(images), name='images')
    noise = jax.random.uniform(key, images.shape, images.dtype, -radius, radius)
    squared = jnp.square(noise).sum(axis=range(images.ndim - 1), keepdims=True)
    length = jnp.maximum(jnp.sqrt(squared), radius)
    return jnp.clip(images + noise * (radius / length), 0, 1)


def m2m_translate(
    target_model: Model,
    seed_model: Model,
    images: ArrayLike,
    seed_labels: ArrayLike,
    target_labels: ArrayLike,
    *,
    lam: float = 0.5,
    step_size: float = 0.1,
    steps: int = 10,
) -> jax.Array:
    """Turns images of a seed class into images of a target class.

    x <- clip(x - step_size g / (|g| + 1e-10), 0, 1), repeated; g is each image's gradient of
    CE(target_model(x), target) + lam seed_model(x)_seed.

    Args:
      target_model: g, trained beforehand on the imbalanced data; sees the target class.
      seed_model: f, the one in training; its logit of the seed class goes down.
      images: [batch, ...] pixels from 0 to 1, of the seed classes, see `m2m_start`.
      seed_labels: [batch] int, their classes.
      target_labels: [batch] int, the classes wanted.
      lam: weight of the seed class's logit.
      step_size: length of each step.
      steps: number of steps; may be traced.

    Returns:
      Images of the same shape, a constant.

    Raises:
      ValueError: the images are not floating.

    Source: Kim et al., CVPR 2020; normalised steps as in its released code.

    >>> def model(x):
    ...     return jnp.concatenate([x, -x], axis=1)
    >>> translated = m2m_translate(
    ...     model, model, jnp.array([[0.25]]), jnp.array([0]), jnp.array([1]), steps=2
    ... )
    >>> round(float(translated[0, 0]), 4)
    0.05
    """
    start = checked_floats(images, (None,) * jnp.ndim(images), name='images')
    seeds, targets = jnp.asarray(seed_labels), jnp.asarray(target_labels)
    pixel_axes = tuple(range(1, start.ndim))

    def objective(images: jax.Array) -> jax.Array:
        seed_logits = jnp.take_along_axis(seed_model(images), seeds[:, None], axis=1)
        return softmax_cross_entropy(target_model(images), targets).sum() + lam * seed_logits.sum()

    def step(_: ArrayLike, images: jax.Array) -> jax.Array:
        gradient = jax.grad(objective)(images)
        length = jnp.sqrt(jnp.square(gradient).sum(axis=pixel_axes, keepdims=True))
        return jnp.clip(images - step_size * gradient / (length + 1e-10), 0, 1)

    return jax.lax.stop_gradient(jax.lax.fori_loop(0, steps, step, start))


def m2m_accepted(
    target_logits: ArrayLike, target_labels: ArrayLike, *, confidence: float = 0.9
) -> jax.Array:
    """Which translations are good enough, p_target >= confidence.

    A rejected one is replaced by an ordinary image of its target class.

    Args:
      target_logits: [batch, K] of the model that sees the target class, on the translations.
      target_labels: [batch] int.
      confidence: gamma, the least probability.

    Returns:
      [batch] bool.

    Source: Kim et al., CVPR 2020; the threshold gamma.

    >>> m2m_accepted(jnp.array([[9.0, 0.0], [0.0, 0.0]]), jnp.array([0, 0])).tolist()
    [True, False]
    """
    return jnp.exp(-softmax_cross_entropy(target_logits, target_labels)) >= confidence


def m2m_seed_acceptance(
    counts: ArrayLike | Sequence[int], *, beta: float = 0.999
) -> NDArray[np.float64]:
    """Probability that an image of class a may be the seed of class b, 1 - beta^max(n_a - n_b, 0).

    Args:
      counts: [K] training images of each class.
      beta: from 0 (any larger class will do) to below 1 (only a much larger one).

    Returns:
      [K, K] with a row for each seed class, computed on the host.

    Raises:
      ValueError: beta is not from 0 to below 1.

    Source: Kim et al., CVPR 2020, sampling of the seed class.

    >>> m2m_seed_acceptance([3, 1], beta=0.5).tolist()
    [[0.0, 0.75], [0.0, 0.0]]
    """
    if not 0 <= beta < 1:
        raise ValueError(f'beta must lie from 0 to below 1, got {beta}')
    checked = checked_counts(counts)
    # One array, in place: that of 8,142 classes takes half a GB.
    values = checked[:, None] - checked[None, :]
    np.maximum(values, 0, out=values)
    np.power(beta, values, out=values)
    return np.subtract(1, values, out=values)


def m2m_keep_probability(counts: ArrayLike | Sequence[int]) -> NDArray[np.float64]:
    """Probability that a drawn image stays as it is, n_k / n_max: [K], on the host, of counts [K].

    Otherwise its place is taken by a translation to its class. With class-balanced draws, the
    smaller a class the more of its places are.

    Source: Kim et al., CVPR 2020, released code.

    >>> m2m_keep_probability([4, 1]).tolist()
    [1.0, 0.25]
    """
    checked = checked_counts(counts)
    return checked / checked.max()


def m2m_seeds(
    key: jax.Array, labels: ArrayLike, target_labels: ArrayLike, *, acceptance: ArrayLike
) -> jax.Array:
    """Draws a seed image of the batch for each target, with the probability of its class.

    Args:
      key: random key.
      labels: [batch] int, the images to draw from.
      target_labels: [n] int.
      acceptance: [K, K], see `m2m_seed_acceptance`.

    Returns:
      [n] int32 indices into the batch. A target for which no image of the batch may be a seed gets
      any image: leave its place as it is.

    Source: Kim et al., CVPR 2020, sampling of the seed class.

    >>> acceptance = m2m_seed_acceptance([9, 1])
    >>> m2m_seeds(jax.random.key(0), jnp.array([1, 0]), jnp.array([1]), acceptance=acceptance)
    Array([1], dtype=int32)
    """
    table = jnp.asarray(acceptance, float)
    weights = table[jnp.asarray(labels)[None, :], jnp.asarray(target_labels)[:, None]]
    return jax.random.categorical(key, jnp.log(weights), axis=1).astype(jnp.int32)
