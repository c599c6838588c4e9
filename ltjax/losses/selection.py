"""Which examples of a batch a loss keeps."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax.losses._arrays import checked_floats, keep_examples


def hardest_examples(
    values: ArrayLike, *, keep_ratio: float = 0.7, where: ArrayLike | None = None
) -> jax.Array:
    """Online hard example mining (OHEM): the max(1, int(r B)) examples with the largest losses.

    The choice is over the whole batch. Reduce with it as the mask: `mean(values, selected)`.

    Args:
      values: [batch] losses of the examples; of equal ones the earlier is kept.
      keep_ratio: r, above 0 up to 1; 1 keeps all.
      where: [batch] bool, True for the examples that count, B of them; None counts all.

    Returns:
      [batch] bool, True for the examples to keep; all False if nothing counts.

    Raises:
      ValueError: keep_ratio is not above 0 and up to 1.

    Source: Shrivastava et al., "Training region-based object detectors with online hard example
    mining", CVPR 2016.

    Reading: the paper keeps a fixed number of regions of each image; a ratio of the batch is how
    the baseline is stated for classification, without a published value. 0.7 is ours.

    >>> hardest_examples(jnp.array([0.1, 2.0, 0.5]), keep_ratio=0.7).tolist()
    [False, True, True]
    """
    if not 0 < keep_ratio <= 1:
        raise ValueError(f'keep_ratio must lie above 0 and up to 1, got {keep_ratio}')
    values = checked_floats(values, (None,), name='values', where=where)
    (batch,) = values.shape
    counted = keep_examples(jnp.ones(batch, bool), where)
    # A table, since the product is to be rounded down in float64.
    kept = np.array([0] + [max(1, int(keep_ratio * n)) for n in range(1, batch + 1)])
    order = jnp.argsort(jnp.where(counted, -values, jnp.inf), stable=True)
    rank = jnp.zeros(batch, int).at[order].set(jnp.arange(batch))
    return counted & (rank < jnp.asarray(kept)[counted.sum()])
