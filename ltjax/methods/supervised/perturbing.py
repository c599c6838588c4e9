"""Losses at classifiers, or at features, that are perturbed for each class (CC-SAM; Zhou et al., 2023)."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax import losses
from ltjax.methods.supervised.mixing import Mixed
from ltjax.methods.task import Epochs, Task
from ltjax.settings import Choices, at_least, from_to, positive

Share = Annotated[float, from_to(0, 1)]
# logits [B, K] -> their losses [B].
Values = Callable[[jax.Array], jax.Array]
# (classifier, what the network says of the batch, losses of logits, step) -> losses [B].
Perturbing = Callable[[Any, Mixed, Values, jax.Array], jax.Array]

PERTURBINGS: Choices[Perturbing] = Choices()


@PERTURBINGS.add
def none(task: Task, epochs: Epochs) -> Perturbing:
    """Both as they are."""
    return lambda classifier, mixed, values, step: values(mixed.logits)


@PERTURBINGS.add
def classifier_by_class(
    task: Task,
    epochs: Epochs,
    *,
    noise_ratio: Annotated[float, positive()] = 1e-6,
    flat_ratio: Share = 0.3,
) -> Perturbing:
    """CC-SAM's first stage: a share of the loss is that of the classifier made worse for the image's class.

    Of mixed images that share takes the first label.
    """
    radii = jnp.asarray(losses.cc_sam_radii(task.train_counts, noise_ratio=noise_ratio))

    def perturbed(classifier: Any, mixed: Mixed, values: Values, step: jax.Array) -> jax.Array:
        split: Any = nnx.split(classifier, nnx.Param, ...)
        graphdef, parameters, rest = split

        def head(parameters: Any, features: jax.Array) -> jax.Array:
            copy: Any = nnx.merge(graphdef, parameters, rest, copy=True)
            return copy(features)

        return losses.cc_sam_head(
            head,
            parameters,
            mixed.features,
            mixed.labels,
            radii=radii,
            flat_ratio=flat_ratio,
            plain_loss=lambda logits, labels: values(logits),
        )

    return perturbed


@PERTURBINGS.add
def features_by_class(
    task: Task,
    epochs: Epochs,
    *,
    divisor: Annotated[float, positive()] = 2.0,
    scale: Annotated[float, at_least(0)] = 1.0,
    limit: Share = 1.0,
) -> Perturbing:
    """CC-SAM's second stage: features moved uphill, of rare classes most; their share of the loss grows to `limit`."""
    weights = losses.cc_sam_class_weights(task.train_counts, divisor=divisor)
    share = losses.cc_sam_coefficient(start=0, end=max(epochs.epochs, 1), limit=limit)
    steps = task.steps(epochs.batch_size)

    def perturbed(classifier: Any, mixed: Mixed, values: Values, step: jax.Array) -> jax.Array:
        graphdef, state = nnx.split(classifier)

        def head(features: jax.Array) -> jax.Array:
            copy: Any = nnx.merge(graphdef, state, copy=True)
            return copy(features)

        return losses.cc_sam_features(
            head,
            mixed.features,
            mixed.labels,
            class_weights=jnp.asarray(weights, mixed.features.dtype),
            alpha=share(step // steps),
            scale=scale,
        )

    return perturbed
