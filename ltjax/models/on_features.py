"""A classifier on features that an encoder, held still, made before."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ltjax.models.classifier import ImageClassifier, Tap, untouched
from ltjax.models.layers import linear


class OnFeatures(ImageClassifier):
    """What is behind the encoder of a network; its "images" are that network's features, float32 [B, 1, 1, C].

    It has the parameters that the whole network has beside its encoder, by the same names: so the two together are
    the whole network.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        channels: int,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Draws the classifier as PyTorch's linear layer; `channels` is C."""
        self.dtype = jnp.dtype(dtype)
        self.feature_dim = channels
        self.classifier = linear(channels, num_classes, rngs=rngs)

    def feature_maps(self, images: jax.Array, tap: Tap = untouched) -> dict[str, jax.Array]:
        """Returns the features as they are, as 'stage1'."""
        return {'stage1': tap('stage1', images)}
