"""Classifiers in place of the network's own linear layer, or its other beginning."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltjax import losses
from ltjax.engine.stage import AddHeads
from ltjax.engine.state import LaterStatistic
from ltjax.errors import UserError
from ltjax.methods.task import Task
from ltjax.models.layers import UNIFORM_FAN_IN
from ltjax.models.resnet_cifar import CosineClassifier
from ltjax.settings import Choice, Choices, at_least, chosen, positive

Positive = Annotated[float, positive()]


class ScaledCosineClassifier(CosineClassifier):
    """Cosines times a scale, for losses that bring none of their own."""

    def __init__(self, inputs: int, outputs: int, *, scale: float, rngs: nnx.Rngs) -> None:
        super().__init__(inputs, outputs, rngs=rngs)
        self.scale = scale

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns logits [B, K] of features [B, C]."""
        return self.scale * super().__call__(features)


class RescaledClassifier(nnx.Module):
    """A linear classifier with a factor a class, 1 at first, which LWS learns (Kang et al., 2020)."""

    def __init__(self, trained: Any) -> None:
        self.kernel, self.bias = trained.kernel, trained.bias
        self.scale = nnx.Param(jnp.ones(self.bias.shape))

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns logits [B, K] of features [B, C]."""
        logits = losses.linear_logits(features, self.kernel[...].T, self.bias[...])
        return losses.learnable_scaling(logits, self.scale[...])


class Calibration(nnx.Module):
    """What DisAlign learns beside a linear classifier; at first it changes nothing.

    Attributes:
      magnitude, margin: of each class [K].
      kernel, bias: [C] and [], of how much they count for an image.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        self.magnitude = nnx.Param(jnp.ones(outputs))
        self.margin = nnx.Param(jnp.zeros(outputs))
        self.kernel = nnx.Param(jnp.full(inputs, 0.1))
        self.bias = nnx.Param(jnp.zeros(()))


class AlignedClassifier(nnx.Module):
    """A linear classifier with a calibration, which DisAlign learns (Zhang et al., 2021)."""

    def __init__(self, trained: Any) -> None:
        self.kernel, self.bias = trained.kernel, trained.bias
        self.calibration = Calibration(*self.kernel.shape)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns logits [B, K] of features [B, C]."""
        own = self.calibration
        weight, bias = own.kernel[...][None, :], own.bias[...][None]
        return losses.aligned_logits(
            losses.linear_logits(features, self.kernel[...].T, self.bias[...]),
            losses.linear_logits(features, weight, bias)[:, 0],
            magnitude=own.magnitude[...],
            margin=own.margin[...],
        )


class DeconfoundedClassifier(nnx.Module):
    """Normalised heads that follow the features' mean direction and take it out at inference (TDE).

    Attributes:
      kernel: parameters [C, K].
      direction: running sum [C] of mean features.
      alpha: how much of the direction is taken out at inference.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        heads: int,
        scale: float,
        gamma: float,
        momentum: float,
        alpha: float,
        rngs: nnx.Rngs,
    ) -> None:
        self.kernel = nnx.Param(UNIFORM_FAN_IN(rngs.params(), (inputs, outputs), jnp.float32))
        self.direction = nnx.BatchStat(jnp.zeros(inputs))
        self.alpha = nnx.BatchStat(jnp.asarray(alpha, jnp.float32))
        self.heads, self.scale, self.gamma, self.momentum = heads, scale, gamma, momentum
        self.use_running_average = False

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns logits [B, K] of features [B, C]."""
        shared: Any = {'num_heads': self.heads, 'scale': self.scale, 'gamma': self.gamma}
        weight = self.kernel[...].T
        if self.use_running_average:
            return losses.total_direct_effect(
                features, weight, self.direction[...], alpha=self.alpha[...], **shared
            )
        self.direction[...] = losses.update_direction(
            self.direction[...], features, mu=self.momentum
        )
        return losses.deconfounded_logits(features, weight, **shared)


# Transforms of features and metrics by which a mean is the nearest; see `losses.nearest_means`.
RULES: dict[str, tuple[Any, Any]] = {
    f'{transform}_{metric}': (transform, metric)
    for transform in ('un', 'l2n', 'cl2n')
    for metric in ('l2', 'cos')
}


class NearestMeanClassifier(nnx.Module):
    """A linear classifier that becomes one of nearest class means (NCM; Kang et al., 2020).

    Attributes:
      kernel, bias: of the linear one.
      centroids: means [K, C] of transformed training features.
      mean: of all training features [C].
      seen: the classes that have some [K].
      rule: int32 []: 0 is the linear classifier, 1 and more are those of `RULES`.
    """

    def __init__(self, trained: Any) -> None:
        self.kernel, self.bias = trained.kernel, trained.bias
        inputs, outputs = self.kernel.shape
        self.centroids = LaterStatistic(jnp.zeros((outputs, inputs)))
        self.mean = LaterStatistic(jnp.zeros(inputs))
        self.seen = LaterStatistic(jnp.zeros(outputs, bool))
        self.rule = LaterStatistic(jnp.zeros((), jnp.int32))

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns logits [B, K] of features [B, C]."""

        def by(transform: Any, metric: Any) -> Callable[[jax.Array], jax.Array]:
            means = losses.NearestMeans(self.mean[...], self.centroids[...], self.seen[...])

            def logits(features: jax.Array) -> jax.Array:
                values = losses.nearest_mean_logits(
                    features, means, transform=transform, metric=metric
                )
                return jnp.maximum(values, -1e30)  # of a class without images: finite, and last

            return logits

        def trained(features: jax.Array) -> jax.Array:
            return losses.linear_logits(features, self.kernel[...].T, self.bias[...])

        rules = [by(*rule) for rule in RULES.values()]
        return jax.lax.switch(self.rule[...], [trained, *rules], features)


HEADS: Choices[None] = Choices()


@HEADS.add
def linear(
    model: Any,
    task: Task,
    rngs: nnx.Rngs,
    *,
    bias_init: Literal['layer', 'uniform', 'prior'] = 'layer',
) -> None:
    """The network's own; with 'uniform' and 'prior' sigmoids start at 1 / K, or at the class's share of images."""
    if bias_init == 'layer':
        return
    counts = np.maximum(task.train_counts, 1)
    priors = (
        counts / counts.sum() if bias_init == 'prior' else np.full(len(counts), 1 / len(counts))
    )
    bias = [losses.sigmoid_bias_init(prior) for prior in priors]
    model.classifier.bias[...] = np.array(bias, np.float32)


@HEADS.add
def cosine(model: Any, task: Task, rngs: nnx.Rngs, *, scale: Positive = 1.0) -> None:
    """Cosines times `scale`; without it for losses that have one."""
    model.classifier = ScaledCosineClassifier(
        model.feature_dim, task.num_classes, scale=scale, rngs=rngs
    )


@HEADS.add
def rescaled(model: Any, task: Task, rngs: nnx.Rngs) -> None:
    """A factor a class, which LWS learns."""
    model.classifier = RescaledClassifier(model.classifier)


@HEADS.add
def aligned(model: Any, task: Task, rngs: nnx.Rngs) -> None:
    """A calibration of the logits, which DisAlign learns."""
    model.classifier = AlignedClassifier(model.classifier)


@HEADS.add
def nearest_mean(model: Any, task: Task, rngs: nnx.Rngs) -> None:
    """A linear one that NCM turns into nearest means."""
    model.classifier = NearestMeanClassifier(model.classifier)


@HEADS.add
def deconfounded(
    model: Any,
    task: Task,
    rngs: nnx.Rngs,
    *,
    heads: Annotated[int, at_least(1)] = 2,
    scale: Positive = 16.0,
    gamma: Annotated[float, at_least(0)] = 1 / 32,
    momentum: Annotated[float, at_least(0)] = 0.9,
    alpha: Annotated[float, at_least(0)] = 1.5,
) -> None:
    """Normalised, in `heads` parts; the features' mean direction is taken out at inference (TDE)."""
    if model.feature_dim % heads:
        raise UserError(f'{heads} heads do not divide {model.feature_dim} features: use 1 or 2.')
    model.classifier = DeconfoundedClassifier(
        model.feature_dim,
        task.num_classes,
        heads=heads,
        scale=scale,
        gamma=gamma,
        momentum=momentum,
        alpha=alpha,
        rngs=rngs,
    )


def add_head(choice: Choice, task: Task) -> AddHeads:
    """Returns the `add_heads` of a recipe that gives the network the chosen classifier."""
    add = chosen(HEADS, choice)
    return lambda model, rngs: add(model, task, rngs)
