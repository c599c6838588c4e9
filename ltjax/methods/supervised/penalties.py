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
from ltjax.settings import at_least

# (network, what it says of the batch) -> [].
Penalty = Callable[[ImageClassifier, Mixed], jax.Array]
Weight = Annotated[float, at_least(0)]


def none() -> Penalty:
    """Nothing."""
    return lambda model, mixed: jnp.zeros(())


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


PENALTIES: dict[str, Callable[..., Penalty]] = {
    function.__name__: function for function in (none, distractor)
}
