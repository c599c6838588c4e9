"""Perturbed weights: sharpness-aware minimisation, and the flat region and box of FCD.

Parameters are any pytree of floating arrays, and a loss is any function of them.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from ltjax.losses._arrays import at_least_float32

Params = TypeVar('Params')
Result = TypeVar('Result')


def sam_perturbation(gradients: Params, *, rho: float = 0.05, eps: float = 1e-12) -> Params:
    """Step to the worst weights within distance rho, to first order: rho g / (|g| + eps).

    Args:
      gradients: tree of arrays; |g| is one norm over all of them.
      rho: radius.
      eps: keeps the step finite; a gradient of zero gives a step of zero.

    Returns:
      A tree like the gradients, in their dtypes.

    Source: Foret et al., "Sharpness-aware minimization for efficiently improving generalization",
    ICLR 2021, equation 2 with p = 2.

    >>> sam_perturbation({'w': jnp.array([3.0]), 'b': jnp.array([4.0])}, rho=1.0)['b'].tolist()
    [0.800000011920929]
    """
    scale = rho / (optax.tree.norm(jax.tree.map(at_least_float32, gradients)) + eps)
    return jax.tree.map(lambda g: (scale * g).astype(g.dtype), gradients)


def sam_value_and_grad(
    loss_fn: Callable[..., Any], *, rho: float = 0.05, eps: float = 1e-12, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """`jax.value_and_grad` with the gradient taken at the perturbed weights, to be applied at w.

    The gradient is that of L(w + rho g/|g|) with the perturbation held constant, g that of L(w).
    Two backward passes.

    Args:
      loss_fn: (params, *args) -> scalar, or (scalar, aux).
      rho: radius.
      eps: see `sam_perturbation`.
      has_aux: whether loss_fn returns (scalar, aux).

    Returns:
      (params, *args) -> (what loss_fn returns at the unperturbed weights, gradient). So statistics
      of batch norm that come as aux are those of the first pass alone.

    Source: Foret et al., ICLR 2021, equation 3.

    >>> value, gradient = sam_value_and_grad(lambda w: w**2, rho=0.5)(1.0)
    >>> float(value), float(gradient)
    (1.0, 3.0)
    """
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=has_aux)

    def sharpness_aware(params: Any, *args: Any) -> tuple[Any, Any]:
        value, gradients = value_and_grad(params, *args)
        perturbation = sam_perturbation(gradients, rho=rho, eps=eps)
        return value, value_and_grad(optax.tree.add(params, perturbation), *args)[1]

    return sharpness_aware


def box_noise(key: jax.Array, params: Any, copies: int, bound: float) -> Any:
    """Uniform noise in the box of half-width `bound` around every parameter.

    Args:
      key: random key.
      params: tree of floating arrays.
      copies: M, static.
      bound: half-width.

    Returns:
      A tree like params whose arrays have a leading axis of length M.

    Source: FCD, Li et al., "Flat-aware cross-stage distilled framework for imbalanced medical image
    classification", MICCAI 2022, search of a flat region.

    Reading: ours; neither the distribution of the noise nor its width could be checked against the
    paper.

    >>> noise = box_noise(jax.random.key(0), {'w': jnp.zeros([3])}, 2, 0.1)['w']
    >>> noise.shape, bool((jnp.abs(noise) <= 0.1).all())
    ((2, 3), True)
    """
    leaves, structure = jax.tree.flatten(params)
    draws = [
        jax.random.uniform(key, (copies, *leaf.shape), leaf.dtype, -bound, bound)
        for key, leaf in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, draws)


def average_over_noise(loss_fn: Callable[[Any], Result], params: Any, noise: Any) -> Result:
    """Average of a function over shifted copies of the weights, (1/M) sum_m L(w + e_m).

    Small where a whole region around the weights is good. The copies are gone through one after
    another and recomputed in the backward pass, so that memory is that of one copy.

    Args:
      loss_fn: params -> array or tree of arrays, such as the values per example.
      params: tree of floating arrays.
      noise: a tree like params with a leading axis of length M, see `box_noise`.

    Returns:
      What loss_fn returns, averaged.

    Source: FCD, Li et al., MICCAI 2022, search of a flat region on the imbalanced data (stage 1).

    Reading: ours, and no evidence of fidelity. The paper searches for a flat region; that it does
    so by averaging the cross-entropy over uniform noise is our guess.

    >>> float(average_over_noise(lambda w: w**2, jnp.array(1.0), jnp.array([-1.0, 1.0])))
    2.0
    """
    shifted = jax.checkpoint(lambda e: loss_fn(optax.tree.add(params, e)), prevent_cse=False)
    values = jax.lax.map(shifted, noise)
    return jax.tree.map(lambda value: jnp.mean(value, axis=0), values)


def project_to_box(params: Params, centre: Params, bound: ArrayLike) -> Params:
    """Clamps every parameter to its box, min(max(w, c - bound), c + bound).

    Args:
      params: tree of arrays after an update.
      centre: the same tree at the end of stage 1.
      bound: half-width of the box.

    Returns:
      A tree like params.

    Source: FCD, Li et al., MICCAI 2022, fine-tuning within the flat region on balanced data (stage
    2).

    Reading: ours, and no evidence of fidelity: we could not check how the paper stays inside the
    region. We clamp after every update. Its distillation between the stages is
    `distilled_cross_entropy`.

    >>> project_to_box(jnp.array([0.5, 0.0]), jnp.zeros([2]), 0.25).tolist()
    [0.25, 0.0]
    """
    lower = jax.tree.map(lambda c: c - bound, centre)
    upper = jax.tree.map(lambda c: c + bound, centre)
    return optax.projections.projection_box(params, lower, upper)
