"""OLTR: features enriched from a memory of class centroids, after an ordinary training (Liu et al., CVPR 2019).

The first stage is cross-entropy. The second adds three things and trains on: modulated attention on the last feature
map; a classifier whose input is the feature and what a mixture of the centroids says of it, longer the nearer a
centroid is; and a loss that draws features to the centroid of their class. The mixture's weights start as the first
stage's classifier, the centroids as the means of its training features; the loss moves them.

As the paper has it, and of any network and size of image. In the released code the attention's weight of a place
depends on the whole map of 7x7 places by a linear layer of its own, here on that place; another linear layer follows
the pooling, which the paper does not have; and the images of a batch come in fours of a class, here each by itself.
Recognising images of no class, by a threshold, is left out.
"""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax import losses
from ltjax.engine.settings import Group
from ltjax.engine.stage import Batch, Loss, Recipe, Run, Stage
from ltjax.engine.state import TrainState, with_leaves
from ltjax.methods.supervised.stage import plain, supervised_stage
from ltjax.methods.task import Supervised, Task, epochs_of
from ltjax.models.branches import add_branches
from ltjax.models.layers import HE_FAN_IN, UNIFORM_FAN_IN, at_least_float32, conv, linear
from ltjax.settings import at_least, positive

Positive = Annotated[float, positive()]
NotNegative = Annotated[float, at_least(0)]

# What the second stage adds, by the beginning of its path.
ADDED = ('branches', 'classifier/selector', 'classifier/kernel', 'classifier/centroids')


@dataclasses.dataclass(frozen=True)
class Remembering(Supervised):
    """The second stage.

    Attributes:
      centroid_weight: of the loss that draws features to centroids.
      margin: mean squared distance to other classes' centroids from which they no longer repel.
      repel_weight: of their repulsion in that loss.
    """

    centroid_weight: NotNegative = 0.01
    margin: NotNegative = 10.0
    repel_weight: NotNegative = 0.01


@dataclasses.dataclass(frozen=True)
class Config:
    """OLTR's values.

    Attributes:
      attention: whether the second stage has it.
      reach: scale of the distances to centroids.
      scale: bound of the logits.
      train: the first stage.
      retrain: the second.
    """

    attention: bool
    reach: Positive
    scale: Positive
    train: Supervised
    retrain: Remembering


class ModulatedAttention(nnx.Module):
    """x + a(x) s(x): self-attention s, weighted by an attention a over the places (Liu et al., 2019, section 3).

    s has embedded Gaussians of half the channels (Wang et al., "Non-local neural networks", CVPR 2018) and starts at
    zero. a is a softmax over the H W places of a linear function of each.

    Attributes:
      active: float32 []: 0 leaves the map as it is, 1 attends.
    """

    def __init__(self, width: int, *, dtype: Any, rngs: nnx.Rngs) -> None:
        """`width` are the channels of the map, `dtype` that of the computation."""
        inner = max(width // 2, 1)
        draws: dict[str, Any] = {'bias': True, 'init': HE_FAN_IN, 'dtype': dtype, 'rngs': rngs}
        self.query = conv(width, inner, 1, **draws)
        self.key = conv(width, inner, 1, **draws)
        self.value = conv(width, inner, 1, **draws)
        self.output = conv(inner, width, 1, init=nnx.initializers.zeros, dtype=dtype, rngs=rngs)
        self.place = conv(width, 1, 1, **draws | {'init': UNIFORM_FAN_IN})
        self.active = nnx.BatchStat(jnp.zeros((), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns a map [B, H, W, C] of one, or tokens [B, T, C] of such."""
        if x.ndim == 3:
            return self(x[:, :, None])[:, :, 0]
        batch, height, width, _ = x.shape

        def places(layer: nnx.Conv) -> jax.Array:
            made = layer(x).reshape(batch, height * width, -1)
            return made.astype(at_least_float32(made.dtype))

        scores = jnp.einsum('bqc,bkc->bqk', places(self.query), places(self.key))
        mixed = jnp.einsum('bqk,bkc->bqc', jax.nn.softmax(scores), places(self.value))
        attended = self.output(mixed.reshape(batch, height, width, -1).astype(x.dtype))
        weights = jax.nn.softmax(places(self.place), axis=1).reshape(batch, height, width, 1)
        return x + (self.active[...] * weights * attended).astype(x.dtype)


class MemoryClassifier(nnx.Module):
    """A linear classifier that becomes one with a memory.

    Attributes:
      hallucinator: features to logits at first; with a memory, to a mixture of the centroids.
      selector: features to how much of each channel of that mixture is added.
      kernel: class weights [C, K] of the cosines.
      centroids: parameters [K, C]; cross-entropy does not move them.
      active: int32 []: 0 is the linear classifier, 1 that with the memory.
    """

    def __init__(self, hallucinator: Any, *, reach: float, scale: float, rngs: nnx.Rngs) -> None:
        """Takes the network's linear classifier, and draws the rest; see `losses.memory_embedding`."""
        self.hallucinator = hallucinator
        inputs, outputs = hallucinator.kernel.shape
        self.selector: Any = linear(inputs, inputs, rngs=rngs)
        self.kernel = nnx.Param(UNIFORM_FAN_IN(rngs.params(), (inputs, outputs), jnp.float32))
        self.centroids = nnx.Param(jnp.zeros((outputs, inputs)))
        self.active = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.reach, self.scale = reach, scale

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns logits [B, K] of features [B, C]."""
        layers = losses.MemoryLayers(
            self.hallucinator.kernel[...].T,
            self.hallucinator.bias[...],
            self.selector.kernel[...].T,
            self.selector.bias[...],
        )

        def remembering(features: jax.Array) -> jax.Array:
            centroids = jax.lax.stop_gradient(self.centroids[...])
            embedding = losses.memory_embedding(features, centroids, layers, reach=self.reach)
            return losses.squashed_cosine_logits(embedding, self.kernel[...].T, scale=self.scale)

        def linear_alone(features: jax.Array) -> jax.Array:
            return losses.linear_logits(features, *layers[:2])

        logits: jax.Array = jax.lax.cond(self.active[...], remembering, linear_alone, features)
        return logits


def recipe(config: Config, task: Task) -> Recipe:
    """Returns cross-entropy (`config.train`), and the stage with the memory (`config.retrain`).

    Raises:
      UserError: there is no such sampler, or no step to train.
    """

    def add_heads(model: Any, rngs: nnx.Rngs) -> None:
        hallucinator = model.classifier
        if not isinstance(hallucinator, nnx.Linear):  # of a network with cosines of its own
            hallucinator = linear(model.feature_dim, task.num_classes, rngs=rngs)
        model.classifier = MemoryClassifier(
            hallucinator, reach=config.reach, scale=config.scale, rngs=rngs
        )
        if config.attention:
            attention = ModulatedAttention(model.map_dim, dtype=model.dtype, rngs=rngs)
            add_branches(model, [attention])

    return Recipe((_first(config, task), _second(config.retrain, task)), add_heads)


def _first(config: Config, task: Task) -> Stage:
    """Returns cross-entropy, which leaves bit for bit what the second stage adds."""
    added = ADDED if config.attention else ADDED[1:]
    optimizer = config.train.optimizer
    groups = {**optimizer.groups, **dict.fromkeys(added, Group(rate=0.0))}
    held = dataclasses.replace(optimizer, groups=groups)
    return supervised_stage(plain(dataclasses.replace(config.train, optimizer=held)), task)


def _second(config: Remembering, task: Task) -> Stage:
    def loss_fn(model: Any, extra: Any, batch: Batch, key: jax.Array, step: jax.Array) -> Loss:
        features, logits = model(batch['view'])
        terms = {
            'cross_entropy': losses.mean(losses.softmax_cross_entropy(logits, batch['label'])),
            'centroid_loss': losses.mean(
                losses.centroid_loss(
                    features,
                    batch['label'],
                    centroids=model.classifier.centroids[...],
                    margin=config.margin,
                    repel_weight=config.repel_weight,
                )
            ),
        }
        value = terms['cross_entropy'] + config.centroid_weight * terms['centroid_loss']
        return Loss(value, terms)

    def remember(state: TrainState, run: Run) -> TrainState:
        """Sets the centroids to the class means of the first stage's features, and begins to use what was added."""
        features = run.train_features(state)
        means = losses.nearest_means(
            features, jnp.asarray(run.train_labels), run.num_classes, transform='un'
        )
        changes: dict[str, Any] = {
            'classifier.centroids': means.centroids,
            'classifier.active': jnp.ones((), jnp.int32),
        }
        if 'branches' in state.model:
            changes['branches.0.active'] = jnp.ones((), jnp.float32)
        return state._replace(model=with_leaves(state.model, changes))

    update = epochs_of(config, task, loss_fn, sampler=config.sampler, name='retrain')
    return Stage('memory', (update,), rounds=config.epochs, prepare=remember)
