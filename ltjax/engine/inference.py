"""Passes over many images with the network held still: features and logits, in batches, in order."""

from typing import Any

import jax
import numpy as np
from flax import nnx

from ltjax import sharding
from ltjax.data.reading import Images
from ltjax.engine.step import Forward


def run(
    forward: Forward,
    model: nnx.State[Any, Any],
    images: Images,
    *,
    batch_size: int,
    mesh: jax.sharding.Mesh,
    key: jax.Array | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns features float32 [N, C] and logits float32 [N, K] of `images`, in their order.

    Args:
      forward: see `engine.step.make_forward`.
      model: the network's state.
      images: uint8 [N, H, W, C].
      batch_size: images a call; the last batch is padded, so that one shape is compiled.
      mesh: the batch size is rounded up to a multiple of its devices.
      key: of a random view, which depends on the batch size then; None: it is not random.
    """
    batch_size = -(-batch_size // mesh.size) * mesh.size
    own = sharding.process_rows(batch_size, mesh)
    results: list[tuple[np.ndarray, np.ndarray]] = []
    late = None
    for start in range(0, len(images), batch_size):
        # Of the last batch, rows beyond the end repeat the last image.
        rows = images[np.minimum(start + own, len(images) - 1)]
        batch = sharding.put_batch(rows, mesh, batch_size)
        own_key = () if key is None else (jax.random.fold_in(key, start),)
        now = forward(model, batch, *own_key)
        if late is not None:  # read one batch late: the next images are read while the device works
            results.append(jax.device_get(late))
        late = now
    results.append(jax.device_get(late))
    features, logits = (np.concatenate(values) for values in zip(*results, strict=True))
    return features[: len(images)], logits[: len(images)]
