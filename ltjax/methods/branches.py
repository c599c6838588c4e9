"""Several branches behind one backbone: BBN (Zhou et al., CVPR 2020) and SADE (Zhang et al., NeurIPS 2022).

A branch is a residual block of its own behind the network's last stage (`models.branches`), a basic one, or where that
would be too large a bottleneck; then the ordinary pooling. Of any network; weights trained elsewhere start the
backbone.

BBN: the ordinary stream of images trains one branch, a reversed one the other, and one linear classifier reads both.
alpha falls from 1 to 0 over the epochs, so that learning moves from all images to rare classes. The image that is
predicted goes through both branches. In the released code each branch takes over the last block of a ResNet, which so
keeps its depth; here the network is deeper by a block.

SADE: three branches with a cosine classifier each, experts for the frequencies of the training images (softmax),
for equal ones (balanced softmax) and for the reversed ones (inverse softmax); the mean of their logits predicts. In the
released code an expert has the last two stages to itself, of three quarters of the width; here it has a block. Left out
is the second part of the method, which weights the experts by unlabelled test images: a model here is finished before
it sees any.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax import losses
from ltjax.engine.stage import Batch, Loss, LossFn, Recipe, Stage, Stream
from ltjax.methods.task import Supervised, Task, epochs_of
from ltjax.models.branches import add_branches, residual_block
from ltjax.models.layers import linear
from ltjax.models.resnet_cifar import CosineClassifier
from ltjax.settings import Choice, Choices, at_least, choice_of, chosen, positive

EXPERTS = ('forward', 'uniform', 'backward')


class ExpertClassifier(nnx.Module):
    """A cosine classifier for each branch; their mean predicts.

    Attributes:
      kernel: parameters [experts * C, K], the rows of one expert after those of another.
    """

    def __init__(
        self, inputs: int, outputs: int, *, experts: int, scale: float, rngs: nnx.Rngs
    ) -> None:
        """Draws unit columns for each expert.

        Args:
          inputs: features of all branches together.
          outputs: K.
          experts: how many branches.
          scale: of the cosines.
          rngs: its 'params' stream is drawn from.
        """
        drawn = [
            CosineClassifier(inputs // experts, outputs, rngs=rngs).kernel[...]
            for _ in range(experts)
        ]
        self.kernel = nnx.Param(jnp.concatenate(drawn))
        self.experts, self.scale = experts, scale

    def each(self, features: jax.Array) -> list[jax.Array]:
        """Returns the logits [B, K] of every expert, of the joined features [B, experts * C]."""
        of_features = jnp.split(features, self.experts, axis=1)
        kernels = jnp.split(self.kernel[...], self.experts)
        return [
            losses.cosine_logits(own, kernel.T, scale=self.scale)
            for own, kernel in zip(of_features, kernels, strict=True)
        ]

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns the mean of the experts' logits: [B, K]."""
        return jnp.mean(jnp.stack(self.each(features)), axis=0)


class Branching(NamedTuple):
    """What a method makes of its branches.

    Attributes:
      number: of the branches.
      classifier: (features of all branches, rngs) -> what reads them.
      loss_fn: of a step.
      samplers: of further streams of images, by their names.
    """

    number: int
    classifier: Callable[[int, nnx.Rngs], nnx.Module]
    loss_fn: LossFn
    samplers: Mapping[str, str] = {}


BRANCHINGS: Choices[Branching] = Choices()


@BRANCHINGS.add
def bilateral(train: Supervised, task: Task, *, sampler: str = 'inverse_frequency') -> Branching:
    """BBN: `sampler` draws what the second branch sees."""
    steps = task.steps(train.batch_size)
    coefficient = losses.bilateral_coefficient(train.epochs)

    def loss_fn(model: Any, extra: Any, batch: Batch, key: jax.Array, step: jax.Array) -> Loss:
        alpha = jnp.asarray(coefficient(step // steps))

        def features(branch: int, images: jax.Array) -> jax.Array:
            *_, last = model.feature_maps(images).values()
            return model.branch(branch, last)

        logits = losses.bilateral_logits(
            features(0, batch['view']),
            features(1, batch['reversed']['view']),
            model.classifier.kernel[...].T,
            model.classifier.bias[...],
            alpha=alpha,
        )
        values = losses.interpolated_cross_entropy(
            logits, batch['label'], other_labels=batch['reversed']['label'], lam=alpha
        )
        return Loss(losses.mean(values), {'alpha': alpha})

    return Branching(
        2,
        lambda inputs, rngs: linear(inputs, task.num_classes, rngs=rngs),
        loss_fn,
        {'reversed': sampler},
    )


@BRANCHINGS.add
def experts(
    train: Supervised,
    task: Task,
    *,
    scale: Annotated[float, positive()] = 30.0,
    tau: Annotated[float, at_least(0)] = 2.0,
) -> Branching:
    """SADE: cosines times `scale`; `tau`, the paper's lambda, is the strength of the third expert's loss."""
    log_prior = jnp.asarray(losses.log_prior(task.train_counts), jnp.float32)
    reversed_log_prior = jnp.asarray(losses.reversed_log_prior(task.train_counts), jnp.float32)

    def loss_fn(model: Any, extra: Any, batch: Batch, key: jax.Array, step: jax.Array) -> Loss:
        forward, uniform, backward = model.classifier.each(model.encode(batch['view']))
        labels = batch['label']
        values = (
            losses.softmax_cross_entropy(forward, labels),
            losses.balanced_softmax(uniform, labels, log_prior=log_prior),
            losses.inverse_softmax(
                backward,
                labels,
                log_prior=log_prior,
                reversed_log_prior=reversed_log_prior,
                tau=tau,
            ),
        )
        each = [losses.mean(value) for value in values]
        return Loss(jnp.stack(each).sum(), dict(zip(EXPERTS, each, strict=True)))

    def classifier(inputs: int, rngs: nnx.Rngs) -> nnx.Module:
        return ExpertClassifier(
            inputs, task.num_classes, experts=len(EXPERTS), scale=scale, rngs=rngs
        )

    return Branching(len(EXPERTS), classifier, loss_fn)


@dataclasses.dataclass(frozen=True)
class Config:
    """The values of a method with branches.

    Attributes:
      train: the stage.
      branches: what the branches learn.
    """

    train: Supervised
    branches: Annotated[Choice, choice_of(BRANCHINGS)]


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the one stage that `config` describes, and the branches.

    Raises:
      UserError: there is no such sampler, or no step to train.
    """
    train = config.train
    branching = chosen(BRANCHINGS, config.branches)(train, task)
    views = {'view': task.view(train.view)}
    update = epochs_of(
        train,
        task,
        branching.loss_fn,
        sampler=train.sampler,
        views=views,
        streams={
            name: Stream(task.sampler(sampler, train.epochs), views)
            for name, sampler in branching.samplers.items()
        },
    )

    def add_heads(model: Any, rngs: nnx.Rngs) -> None:
        add_branches(model, [residual_block(model, rngs) for _ in range(branching.number)])
        model.classifier = branching.classifier(model.feature_dim, rngs)

    return Recipe((Stage(config.branches.name, (update,), rounds=train.epochs),), add_heads)
