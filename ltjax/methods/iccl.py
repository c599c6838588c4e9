"""ICCL (Tiong et al., 2021): interpolative centroid contrastive learning, then a rebalanced classifier.

Stage 1 has two branches with shared weights. The uniform branch sees the training set as it is; the interpolative one
sees mixtures of its images with images of a class-aware sampler, and learns to retrieve both labels' centroids,
running averages of the uniform branch's embeddings. Until epoch `warmup_epochs` the uniform branch trains alone.
Stage 2 fine-tunes the classifier on the reversed sampler, held near that of stage 1 by distillation.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltjax import losses
from ltjax.engine.settings import Group
from ltjax.engine.stage import (
    Batch,
    Loss,
    Recipe,
    Run,
    Stage,
    Stream,
    reset_classifier,
)
from ltjax.engine.state import TrainState
from ltjax.errors import UserError
from ltjax.losses import centroids, class_probabilities, distillation, mixing
from ltjax.methods.supervised.distillation import teacher_logits, teacher_of
from ltjax.methods.task import Epochs, Supervised, Task, epochs_of
from ltjax.models.layers import linear
from ltjax.settings import at_least, from_to, positive

Positive = Annotated[float, positive()]
Share = Annotated[float, from_to(0, 1)]


@dataclasses.dataclass(frozen=True)
class Train(Supervised):
    """Stage 1, representation learning.

    Attributes:
      warmup_epochs: T, of the uniform branch alone.
      uniform_weight: omega_u, after the warm-up; the paper's CIFAR-LT has 0.
      interpolative_weight: omega_it.
      interpolated_cross_entropy: eq. 7.
      centroid_contrast: eq. 5, and its form without mixing during the warm-up.
      gamma: of the class-aware sampler: 0 balanced, 1 reversed, -1 uniform.
      lam_alpha, lam_beta: lambda is drawn from Beta(lam_alpha, lam_beta).
      temperature: tau.
      embedding_dim: of the projection head.
      centroid_momentum: of the running averages.
      centroid_rule: how a batch moves them, see docs/iccl.md.
      normalise_centroids: to unit length.
    """

    warmup_epochs: int
    uniform_weight: float
    interpolative_weight: float
    interpolated_cross_entropy: bool
    centroid_contrast: bool
    gamma: float
    lam_alpha: Positive
    lam_beta: Positive
    temperature: Positive
    embedding_dim: Annotated[int, positive()]
    centroid_momentum: Share
    centroid_rule: Literal['sequential', 'mean', 'sum', 'printed']
    normalise_centroids: bool


@dataclasses.dataclass(frozen=True)
class Retrain(Epochs):
    """Stage 2, rebalancing.

    Attributes:
      enabled: whether there is one.
      trains: the classifier, or all: the encoder is fine-tuned too.
      encoder_learning_rate: of the encoder, if it is fine-tuned.
      reset_classifier: begin with a new one.
      gamma: gamma', of the sampler.
      distillation_weight: omega_d.
      temperature: tau_d.
    """

    enabled: bool
    trains: Literal['classifier', 'all']
    encoder_learning_rate: Annotated[float, at_least(0)] = dataclasses.field(
        default=0.01, kw_only=True
    )
    reset_classifier: bool
    gamma: float
    distillation_weight: Share
    temperature: Positive


@dataclasses.dataclass(frozen=True)
class Config:
    """ICCL's values."""

    train: Train
    retrain: Retrain


# An ImageClassifier with the `projection` that the recipe adds.
Network = Any


def recipe(config: Config, task: Task) -> Recipe:
    """Returns representation learning (`config.train`) and rebalancing (`config.retrain`, if enabled).

    Raises:
      UserError: a warm-up that never ends, or nothing to learn after it.
    """
    first = config.train
    if not 0 <= first.warmup_epochs < max(first.epochs, 1):
        raise UserError(
            f'train.warmup_epochs {first.warmup_epochs} leaves the interpolative branch none of '
            f'{first.epochs} epochs: use 0 to {max(first.epochs, 1) - 1}.'
        )
    interpolates = first.interpolated_cross_entropy or first.centroid_contrast
    if not (first.uniform_weight or (interpolates and first.interpolative_weight)):
        raise UserError(
            'nothing is learnt after the warm-up: train.uniform_weight is 0, and so is the interpolative branch. '
            'Use train.uniform_weight=1, or switch a term of that branch on.'
        )
    stages: tuple[Stage, ...] = (_representation(config.train, task),)
    if config.retrain.enabled:
        stages += (_rebalance(config.retrain, task, config.train.embedding_dim),)

    def add_projection(model: Network, rngs: nnx.Rngs) -> None:
        model.projection = Projection(model.feature_dim, config.train.embedding_dim, rngs=rngs)

    return Recipe(stages, add_projection, _plots)


class Projection(nnx.Module):
    """Features to embeddings of unit length: one hidden layer as wide as the features, ReLU (section 3.1)."""

    def __init__(self, feature_dim: int, embedding_dim: int, *, rngs: nnx.Rngs) -> None:
        self.hidden = linear(feature_dim, feature_dim, rngs=rngs)
        self.output = linear(feature_dim, embedding_dim, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns [B, embedding_dim] of features [B, feature_dim]."""
        return losses.normalise_rows(self.output(nnx.relu(self.hidden(features))))


# Stage 1: representation learning, eq. 1 to 8.


def _representation(config: Train, task: Task) -> Stage:
    start = config.warmup_epochs * task.steps(config.batch_size)
    interpolates = config.interpolated_cross_entropy or config.centroid_contrast

    def interpolative(
        model: Network, batch: Batch, key: jax.Array, centres: jax.Array
    ) -> dict[str, jax.Array]:
        """Returns the means of eq. 7 and 5, those that are switched on."""
        aware = batch['class_aware']
        lam = mixing.mixing_weight(
            key, config.lam_alpha, config.lam_beta, shape=batch['label'].shape
        )
        outputs = model(mixing.interpolate(batch['view'], aware['view'], lam))
        pair = {'other_labels': aware['label'], 'lam': lam}
        terms = {}
        if config.interpolated_cross_entropy:
            terms['interpolated_cross_entropy'] = mixing.interpolated_cross_entropy(
                outputs.logits, batch['label'], **pair
            )
        if config.centroid_contrast:
            terms['interpolated_contrast'] = centroids.interpolative_centroid_contrastive(
                model.projection(outputs.features),
                batch['label'],
                centroids=centres,
                temperature=config.temperature,
                **pair,
            )
        return {name: losses.mean(values) for name, values in terms.items()}

    def loss_fn(model: Network, extra: Any, batch: Batch, key: jax.Array, step: jax.Array) -> Loss:
        centres, active = extra['centroids'], step >= start
        outputs = model(batch['view'])
        embeddings = model.projection(outputs.features)
        terms = {
            'cross_entropy': losses.mean(
                losses.softmax_cross_entropy(outputs.logits, batch['label'])
            )
        }
        uniform = terms['cross_entropy']
        if config.centroid_contrast and start:
            terms['contrast'] = losses.mean(
                centroids.centroid_contrastive(
                    embeddings, batch['label'], centroids=centres, temperature=config.temperature
                )
            )
            uniform = uniform + terms['contrast']
        value = jnp.where(active, config.uniform_weight * terms['cross_entropy'], uniform)
        if interpolates:
            # Computed during the warm-up too: XLA convolves ten times slower inside a `cond` on CPUs.
            # But mixtures must not reach the running statistics then.
            mixing_model = nnx.clone(model)
            interpolated = interpolative(mixing_model, batch, key, centres)
            before, after = (nnx.state(m, nnx.BatchStat) for m in (model, mixing_model))
            nnx.update(model, jax.tree.map(partial(jnp.where, active), after, before))
            weight = jnp.where(active, config.interpolative_weight, 0.0)
            value = value + weight * sum(interpolated.values())
            terms |= interpolated
        moved = centroids.update_centroids(
            centres,
            embeddings,
            batch['label'],
            momentum=config.centroid_momentum,
            rule=config.centroid_rule,
        )
        if config.normalise_centroids:
            moved = losses.normalise_rows(moved)
        return Loss(value, terms, extra | {'centroids': moved})

    def add_centroids(state: TrainState, run: Run) -> TrainState:
        return state._replace(extra={'centroids': _no_centroids(task, config.embedding_dim)})

    views = {'view': task.view(config.view)}
    update = epochs_of(
        config,
        task,
        loss_fn,
        sampler=config.sampler,
        views=views,
        streams={'class_aware': Stream(_class_aware(config, task), views)} if interpolates else {},
    )
    return Stage('representation', (update,), rounds=config.epochs, prepare=add_centroids)


def _no_centroids(task: Task, embedding_dim: int) -> jax.Array:
    return jnp.zeros((task.num_classes, embedding_dim))


def _class_aware(config: Train | Retrain, task: Task) -> np.ndarray:
    return class_probabilities.class_aware(task.train_counts, gamma=config.gamma)


# Stage 2: classifier rebalancing, eq. 9.


def _rebalance(config: Retrain, task: Task, embedding_dim: int) -> Stage:
    """Fine-tunes with distillation; the projection head has no part in it, and BatchNorm stands still."""

    def loss_fn(model: Network, extra: Any, batch: Batch, key: jax.Array, step: jax.Array) -> Loss:
        outputs = model(batch['view'])
        values = distillation.distilled_cross_entropy(
            outputs.logits,
            batch['label'],
            teacher_logits=teacher_logits(
                model, extra['teacher'], batch['view'], outputs.features, config.trains
            ),
            weight=config.distillation_weight,
            temperature=config.temperature,
        )
        return Loss(losses.mean(values))

    def add_teacher(state: TrainState, run: Run) -> TrainState:
        teacher = teacher_of(state, config.trains, batch_norm='running')
        # No loss reads the centroids any more: they are kept for the report. A run that resumes within
        # this stage comes without them, and restores them into these.
        kept = state.extra.get('centroids', _no_centroids(task, embedding_dim))
        if config.reset_classifier:
            state = reset_classifier(state, run)
        return state._replace(extra={'centroids': kept, 'teacher': teacher})

    if config.trains == 'all':
        rate = config.encoder_learning_rate / config.optimizer.learning_rate
        groups = {**config.optimizer.groups, 'encoder': Group(rate=rate)}
        config = dataclasses.replace(
            config, optimizer=dataclasses.replace(config.optimizer, groups=groups)
        )
    update = epochs_of(
        config,
        task,
        loss_fn,
        name='retrain',
        sampler=_class_aware(config, task),
        trains=config.trains,
        batch_norm='running',
    )
    return Stage('rebalance', (update,), rounds=config.epochs, prepare=add_teacher)


def _plots(state: TrainState) -> Sequence[dict[str, Any]]:
    """Returns the centroids' norms, figure 3."""
    norms = np.linalg.norm(np.asarray(state.extra['centroids']), axis=1)
    return ({'title': 'norm of class centroids', 'per_class': norms.tolist()},)
