"""The head of contrastive methods, from features to embeddings."""

from flax import nnx

from ltjax.models.layers import linear


def projection_head(inputs: int, hidden: int, outputs: int, *, rngs: nnx.Rngs) -> nnx.Sequential:
    """Returns a layer, ReLU and a layer: [B, inputs] to [B, outputs], not of unit length.

    Args:
      inputs: width of the features.
      hidden: width between the layers.
      outputs: width of the embeddings.
      rngs: its 'params' stream is drawn from.
    """
    return nnx.Sequential(
        linear(inputs, hidden, rngs=rngs), nnx.relu, linear(hidden, outputs, rngs=rngs)
    )
