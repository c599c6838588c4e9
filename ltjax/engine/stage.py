"""What a method is made of: a recipe of stages, each one or more updates alternated round by round."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import optax
from flax import nnx

from ltjax.engine.state import TrainState, parameter_filter
from ltjax.models import ImageClassifier

Batch = Mapping[str, Any]
View = Callable[[jax.Array, jax.Array], jax.Array]
Sampler = str | np.ndarray
AddHeads = Callable[[Any, nnx.Rngs], None]


class Loss(NamedTuple):
    """What a loss function returns.

    Attributes:
      value: the scalar to minimise.
      logged: named scalars for the log.
      extra: the method's own state after this batch (keys pushed into a queue, centroids moved); None leaves it.
    """

    value: jax.Array
    logged: Mapping[str, jax.Array] = MappingProxyType({})
    extra: Any = None


class LossFn(Protocol):
    """A loss of one update: pure, called inside the jitted step.

    Args:
      model: the whole network, its parameters traced; `model(images)` gives features and logits.
      extra: the method's own state (teacher, Gaussians, queue ...).
      batch: 'index' int32 [B], 'label' int32 [B], one normalised float32 [B, H, W, C] a view, by its name, and the
        same again for each further stream, by its name.
      key: this step's own key.
      step: int32 scalar, steps of this update so far, over all rounds.
    """

    def __call__(
        self, model: ImageClassifier, extra: Any, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Loss: ...


@dataclasses.dataclass(frozen=True)
class Stream:
    """A further stream of training images beside that of an update; its batches are as large.

    Attributes:
      sampler: as in `Update`.
      views: as in `Update`.
    """

    sampler: Sampler
    views: Mapping[str, View]


@dataclasses.dataclass(frozen=True)
class Update:
    """One kind of gradient step; the factory in `engine.step` turns it into one jitted function.

    Attributes:
      name: unique in the recipe; names the optimiser state and the log.
      loss_fn: see `LossFn`.
      optimizer: sees the parameters selected by `trains` only.
      steps: gradient steps a round.
      batch_size: images a step; of no meaning if `sampler` is None.
      sampler: a name or class probabilities, see `data.pipeline`; None if the loss makes its own batch; 'state':
        every image of a round is drawn by `extra['draw']`, see `Stage.before_round`.
      views: name to augmentation, (key, uint8 [B, H, W, C]) -> float32; none: no image is fetched.
      streams: further streams of images, by the name under which the loss finds their batch.
      trains: the parameters: 'all', 'encoder', 'classifier' or a part of it, see `state.parameter_filter`.
      batch_norm: 'batch' normalises by the batch and updates the running statistics; 'running' uses and keeps them.
      after_step: (extra, model state, step) -> extra, inside the jitted step after the parameters moved.
    """

    name: str
    loss_fn: LossFn
    optimizer: optax.GradientTransformation
    steps: int
    batch_size: int = 0
    sampler: Sampler | None = 'instance_balanced'
    views: Mapping[str, View] = dataclasses.field(default_factory=dict)
    streams: Mapping[str, Stream] = dataclasses.field(default_factory=dict)
    trains: str = 'all'
    batch_norm: str = 'batch'
    after_step: Callable[[Any, nnx.State[Any, Any], jax.Array], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Stage:
    """Updates alternated for `rounds` rounds, each round ended by a validation.

    Attributes:
      name: unique in the recipe.
      updates: run one after another in every round; without any, a round validates what `before_round` made of the
        network, and counts as a step.
      rounds: how often.
      prepare: (state, run) -> state, once, before the first round.
      before_round: (state, run, round) -> state, before each round; for passes over the data. What it puts into
        `extra['round']`, dictionaries and tuples of arrays, lasts until the round ends. What it puts into
        `extra['draw']`, float [N], is what the round's images are drawn in proportion to, of updates with the sampler
        'state'; `prepare` puts it there first, and nothing inside a round changes it.
      told: what each round's row of the log says beside, such as the value that it tries; none: nothing.
    """

    name: str
    updates: tuple[Update, ...]
    rounds: int = 1
    prepare: Callable[[TrainState, 'Run'], TrainState] | None = None
    before_round: Callable[[TrainState, 'Run', int], TrainState] | None = None
    told: Sequence[Mapping[str, float | str]] = ()

    @property
    def steps(self) -> int:
        """Steps a round, by which checkpoints are numbered."""
        return sum(update.steps for update in self.updates) if self.updates else 1


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A method: its stages in order.

    Attributes:
      stages: the best validated round of the last one is the result; earlier ones hand on their last state.
      add_heads: (network, rngs) -> None, gives the fresh network what the method needs beside it: a projection head
        as a further attribute, another classifier in place of `classifier`. All but `classifier` counts as encoder.
      plots: selected state -> what the report draws of it, beside the norms of the classifier weights: dictionaries of
        `title` and either `per_class`, K numbers, or `lines` (name to x and y), `x_label` and `y_label`.
    """

    stages: tuple[Stage, ...]
    add_heads: AddHeads | None = None
    plots: Callable[[TrainState], Sequence[Mapping[str, Any]]] | None = None

    def steps_before(self, stage: int, round_: int = 0) -> int:
        """Returns the steps before a round of the stage in that place; of all for the place after the last."""
        lengths = [stage.steps for stage in self.stages]
        rounds = [s.rounds for s in self.stages[:stage]] + [round_]
        return sum(a * b for a, b in zip(lengths, rounds, strict=False))


class Run(Protocol):
    """What hooks between rounds may ask of the running training."""

    seed: int
    num_classes: int
    train_labels: np.ndarray
    mesh: jax.sharding.Mesh

    def new_model(self, key: jax.Array) -> nnx.State[Any, Any]:
        """Returns a freshly initialised network's state."""
        ...

    def new_optimizer_state(self, update: Update, model: nnx.State[Any, Any]) -> Any:
        """Returns the optimiser state of `update` before its first step."""
        ...

    def train_features(self, state: TrainState) -> jax.Array:
        """Returns the encoder's features of the whole training split, unaugmented: float32 [N, C]."""
        ...

    def train_logits(
        self, state: TrainState, view: View | None = None, key: jax.Array | None = None
    ) -> np.ndarray:
        """Returns the logits of the whole training split in inference mode: float32 [N, K].

        Args:
          state: the network.
          view: random, of which each key gives another pass, to see how sure the network is: the networks here have
            no dropout that would make passes differ. None: the images as they are.
          key: of that view's draws.
        """
        ...

    def key(self, purpose: str, index: int = 0) -> jax.Array:
        """Returns a key of its own for each purpose and index."""
        ...


def reset_classifier(state: TrainState, run: Run) -> TrainState:
    """Re-initialises the classifier and nothing else; a `prepare` hook."""
    chosen = parameter_filter('classifier')
    fresh, _ = nnx.split_state(run.new_model(run.key('classifier')), chosen, ...)
    _, rest = nnx.split_state(state.model, chosen, ...)
    return state._replace(model=nnx.merge_state(fresh, rest))
