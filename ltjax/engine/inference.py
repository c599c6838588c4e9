"""Passes over many images with the network held still: features and logits, in batches, in order."""

from collections.abc import Callable

import jax
import numpy as np
from flax import nnx

from ltjax import sharding
from ltjax.data.readers import Images


def run(
    forward: Callable,
    model: nnx.State,
    images: Images,
    *,
    batch_size: int,
    mesh: jax.sharding.Mesh,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns features float32 [N, C] and logits float32 [N, K] of `images`, in their order.

    Args:
      forward: see `engine.step.make_forward`.
      model: the network's state.
      images: uint8 [N, H, W, C].
      batch_size: images a call; the last batch is padded, so that one shape is compiled.
      mesh: the batch size is rounded up to a multiple of its devices.
    """
    batch_size = -(-batch_size // mesh.size) * mesh.size
    split = sharding.batch_sharding(mesh)
    results = []
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        padded = np.concatenate(
            [part, np.zeros((batch_size - len(part), *part.shape[1:]), part.dtype)]
        )
        results.append((len(part), forward(model, jax.device_put(padded, split))))
    features, logits = zip(
        *[(np.asarray(a)[:count], np.asarray(b)[:count]) for count, (a, b) in results], strict=True
    )
    return np.concatenate(features), np.concatenate(logits)
