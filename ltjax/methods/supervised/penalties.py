"""What may be added to the loss of the logits."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax import losses
from ltjax.engine.step import set_batch_norm
from ltjax.methods.supervised.mixing import Mixed
from ltjax.models import ImageClassifier
from ltjax.settings import Choices, at_least

# (network, what it says of the batch) -> [].
Penalty = Callable[[ImageClassifier, Mixed], jax.Array]
Weight = Annotated[float, at_least(0)]

PENALTIES: Choices[Penalty] = Choices()


@PENALTIES.add
def none() -> Penalty:
    """Nothing."""
    return lambda model, mixed: jnp.zeros(())


@PENALTIES.add
def distractor(*, weight: Weight = 0.1) -> Penalty:
    """DANIL in our reading: input gradients of the class and of its strongest rival are pushed apart."""

    def value(model: ImageClassifier, mixed: Mixed) -> jax.Array:
        graphdef, state = nnx.split(model)

        def logits(images: jax.Array) -> jax.Array:
            copy: Any = nnx.merge(graphdef, state, copy=True)
            set_batch_norm(copy, 'running')
            return copy(images).logits

        return weight * losses.mean(losses.distractor_loss(logits, mixed.images, mixed.labels))

    return value


@PENALTIES.add
def ranges(
    *,
    intra: Weight = 1e-3,
    inter: Weight = 1e-3,
    widest: Annotated[int, at_least(1)] = 2,
    margin: Annotated[float, at_least(0)] = 10.0,
) -> Penalty:
    """Range loss on the features (Zhang et al., 2017); a class with one image in the batch has no range."""

    def value(model: ImageClassifier, mixed: Mixed) -> jax.Array:
        parts = losses.range_loss(
            mixed.features,
            mixed.labels,
            num_classes=mixed.logits.shape[1],
            widest=widest,
            margin=margin,
        )
        return intra * parts.intra + inter * parts.inter

    return value
