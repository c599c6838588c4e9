"""ProCo (Yang et al., 2022): prototype-aware contrastive learning, in one stage from end to end.

Two projections leave the encoder: F classifies by its products with learnable prototypes, G is contrasted with a
queue of keys from a momentum encoder. The hardest entries of the queue, moved towards a prototype, join as adversarial
proto-instances. Logits are recalibrated by how well each prototype represents its class. All of it enters one
proto-loss. The authors released no training code: docs/proco.md says what is our reading.
"""

import dataclasses
import math
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax import losses
from ltjax.engine.stage import Batch, Loss, Recipe, Run, Stage
from ltjax.engine.state import TrainState, with_parameters
from ltjax.errors import UserError
from ltjax.losses import proto_instances, prototypes, queues
from ltjax.losses.heads import unit_vectors
from ltjax.methods.task import Supervised, Task, epochs_of
from ltjax.models.layers import UNIFORM_FAN_IN, linear
from ltjax.models.projection import projection_head
from ltjax.settings import from_to, positive

Positive = Annotated[float, positive()]
Share = Annotated[float, from_to(0, 1)]


@dataclasses.dataclass(frozen=True)
class Train(Supervised):
    """The stage; `view` is the query's, `key_view` the key's."""

    key_view: str


@dataclasses.dataclass(frozen=True)
class Config:
    """ProCo's values.

    Attributes:
      train: the stage.
      proto_instances: adversarial proto-instances join the queue.
      recalibration: how omega enters the logits; 'vector': eq. 6 to the letter.
      inference: prototypes as they are, as in the paper, or recalibrated.
      through_prototypes: gradients reach the prototypes through the instances.
      width: of F and G, one for both: eq. 3 mixes their spaces.
      hidden: width of G's hidden layer.
      queue: M, the keys it holds.
      momentum: of the key encoder.
      num_negatives: gamma, the hardest entries.
      epsilon: E, the furthest that an entry is moved.
      omega: before the first step.
      beta: of omega's running average.
      temperature: of the products of embeddings; the paper has none.
      prototype_weight: of a prototype, in entries of the queue; the paper has 1.
    """

    train: Train
    proto_instances: bool
    recalibration: Literal['additive', 'vector', 'none']
    inference: Literal['raw', 'recalibrated']
    through_prototypes: bool
    width: int
    hidden: int
    queue: int
    momentum: Share
    num_negatives: int
    epsilon: Share
    omega: Positive
    beta: Share
    temperature: Positive
    prototype_weight: Positive


class PrototypeClassifier(nnx.Module):
    """The projection F and the prototypes: the last layer of a ProCo network.

    Attributes:
      projection: F but for its ReLU, [feature_dim] to [width].
      kernel: prototypes [width, K], a column each.
      omega: running calibration factors [K]. Like BatchNorm's they are statistics, not parameters: the loss moves
        them, they are saved with the network, and prediction finds them there.
      recalibration: how omega enters the logits.
      inference: whether it does so in a call.
    """

    def __init__(self, feature_dim: int, num_classes: int, config: Config, rngs: nnx.Rngs) -> None:
        """Draws F and the prototypes as linear layers are drawn; omega starts at `config.omega`."""
        self.projection = linear(feature_dim, config.width, rngs=rngs)
        self.kernel = nnx.Param(UNIFORM_FAN_IN(rngs.params(), (config.width, num_classes)))
        self.omega = nnx.BatchStat(jnp.full(num_classes, config.omega, jnp.float32))
        self.recalibration = config.recalibration
        self.inference = config.inference

    def project(self, features: jax.Array) -> jax.Array:
        """Returns F(x) [B, width], not negative, of features [B, feature_dim]."""
        return nnx.relu(self.projection(features))

    def logits(self, projected: jax.Array, *, recalibrated: bool) -> jax.Array:
        """Returns the products [B, K] of F(x) with the prototypes, recalibrated if asked for."""
        if not recalibrated or self.recalibration == 'none':
            return prototypes.prototype_logits(projected, self.kernel[...].T)
        return prototypes.prototype_logits(
            projected,
            self.kernel[...].T,
            omega=self.omega[...],
            recalibration=self.recalibration,
        )

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns the logits [B, K] by which features [B, feature_dim] are predicted."""
        return self.logits(self.project(features), recalibrated=self.inference == 'recalibrated')

    def observe(self, projected: jax.Array, labels: jax.Array, *, beta: float) -> None:
        """Moves omega towards the calibration factors of a batch, eq. 4 and 5."""
        omega, counts = prototypes.calibration_factors(projected, labels, self.kernel[...].T)
        self.omega[...] = prototypes.running_calibration(self.omega[...], omega, counts, beta=beta)


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the one stage of ProCo and its heads F and G.

    Raises:
      UserError: a queue that is too small.
    """
    least = max(config.train.batch_size, config.num_negatives)
    if config.queue < least:
        raise UserError(
            f'queue {config.queue} does not hold a batch of {config.train.batch_size} or '
            f'{config.num_negatives} negatives: use {least} or more.'
        )

    def add_heads(model: Any, rngs: nnx.Rngs) -> None:
        width, hidden = model.feature_dim, config.hidden
        model.classifier = PrototypeClassifier(width, task.num_classes, config, rngs)
        model.projector = projection_head(width, hidden, config.width, rngs=rngs)

    def prepare(state: TrainState, run: Run) -> TrainState:
        extra = {
            'momentum': jax.tree.map(jnp.copy, nnx.filter_state(state.model, nnx.Param)),
            'queue': queues.empty_queue(config.queue, config.width),
        }
        return state._replace(extra=extra)

    def move_momentum_encoder(extra: Any, model: nnx.State[Any, Any], step: jax.Array) -> Any:
        parameters = nnx.filter_state(model, nnx.Param)
        return extra | {'momentum': losses.ema(extra['momentum'], parameters, config.momentum)}

    def plots(state: TrainState) -> list[dict[str, Any]]:
        omega = nnx.to_pure_dict(state.model)['classifier']['omega']
        return [{'title': 'calibration factor of the prototype', 'per_class': omega.tolist()}]

    update = epochs_of(
        config.train,
        task,
        _loss_fn(config),
        sampler=config.train.sampler,
        views={'query': task.view(config.train.view), 'key': task.view(config.train.key_view)},
        after_step=move_momentum_encoder,
    )
    stage = Stage('proco', (update,), rounds=config.train.epochs, prepare=prepare)
    return Recipe((stage,), add_heads, plots)


def _loss_fn(config: Config) -> Any:
    """Returns the proto-loss of a batch, eq. 1 to 7."""
    margin = math.log(config.prototype_weight)

    def loss_fn(model: Any, extra: Any, batch: Batch, key: jax.Array, step: jax.Array) -> Loss:
        labels, queue, classifier = batch['label'], extra['queue'], model.classifier
        momentum: Any = with_parameters(model, extra['momentum'])
        keys = unit_vectors(momentum.projector(momentum.encode(batch['key'])))
        features = model.encode(batch['query'])
        embeddings = unit_vectors(model.projector(features))
        projected = classifier.project(features)
        classifier.observe(projected, labels, beta=config.beta)
        logits = classifier.logits(projected, recalibrated=True)
        instances = None
        if config.proto_instances:
            for_negatives, for_positives = jax.random.split(key)
            shape = (len(labels), config.num_negatives)
            instances = proto_instances.adversarial_instances(
                embeddings,
                labels,
                queue=queue,
                prototypes=classifier.kernel[...].T,
                num_negatives=config.num_negatives,
                negative_epsilon=jax.random.uniform(for_negatives, shape, maxval=config.epsilon),
                positive_epsilon=jax.random.uniform(
                    for_positives, (config.queue,), maxval=config.epsilon
                ),
                through_prototypes=config.through_prototypes,
            )
        # A prototype counts as `prototype_weight` entries of the queue: its term, e^z or e^-z, is so many times larger.
        own = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
        values = proto_instances.proto_loss(
            jnp.where(own, logits - margin, logits + margin),
            embeddings / config.temperature,
            labels,
            queue=queue,
            instances=instances,
        )
        label_loss = losses.mean(losses.softmax_cross_entropy(logits, labels))
        filled = queues.push(queue, keys, labels)
        return Loss(losses.mean(values), {'cross_entropy': label_loss}, extra | {'queue': filled})

    return loss_fn
