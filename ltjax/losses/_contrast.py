"""One masked contrast behind every contrastive loss, and the masks it is made from."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Positives = Literal['mean', 'sum']


def masked_contrast(
    logits: jax.Array,
    positives: jax.Array,
    candidates: jax.Array,
    *,
    over_positives: Positives,
    log_epsilon: jax.Array | None = None,
) -> jax.Array:
    """Log-probabilities of an anchor's positives among its candidates, weighted and negated.

    l_i = - sum_j w_ij (a_ij - log(sum_k v_ik e^{a_ik} + e_i)) / sum_j w_ij

    Args:
      logits: [n, m] a; class logits and similarities to other rows alike are columns of it.
      positives: [n, m] weights w >= 0.
      candidates: [n, m] weights v >= 0; 0 leaves a column out.
      over_positives: 'sum' leaves out the division by sum_j w_ij.
      log_epsilon: [n] log e; None is e = 0.

    Returns:
      [n]; 0 with zero gradient where w is all 0.

    Raises:
      ValueError: over_positives is something else.
    """
    if over_positives not in ('mean', 'sum'):
        raise ValueError(f"positives must be 'mean' or 'sum', got {over_positives!r}")
    some = (candidates > 0).any(axis=1)
    # An anchor on its own has the logarithm of nothing: any denominator will do, its w is 0.
    candidates = jnp.where(some[:, None], candidates, 1)
    log_denominator = jax.nn.logsumexp(logits, axis=1, b=candidates)
    if log_epsilon is not None:
        log_denominator = jnp.logaddexp(log_denominator, log_epsilon)
    values = (positives * (log_denominator[:, None] - logits)).sum(axis=1)
    if over_positives == 'sum':
        return values
    weight = positives.sum(axis=1)
    return values / jnp.where(weight > 0, weight, 1)


def similarities(features: jax.Array, rows: jax.Array, temperature: ArrayLike) -> jax.Array:
    """Dot products [n, m] over the temperature, in full precision on every device."""
    return jnp.matmul(features, rows.T, precision=jax.lax.Precision.HIGHEST) / temperature


def other_rows(anchors: jax.Array, columns: jax.Array) -> jax.Array:
    """[n, m] whether column j is another row than anchor i, and both count; columns start with the anchors."""
    itself = jnp.arange(len(anchors))[:, None] == jnp.arange(len(columns))[None, :]
    return anchors[:, None] & columns[None, :] & ~itself


def counted_rows(where: ArrayLike | None, rows: int, name: str) -> jax.Array:
    """The mask [rows] of an optional argument."""
    if where is None:
        return jnp.ones(rows, bool)
    mask = jnp.asarray(where, bool)
    if mask.shape != (rows,):
        raise ValueError(f'{name} must have shape {(rows,)}, got {mask.shape}')
    return mask
