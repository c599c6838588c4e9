"""FS, flexible sampling (Ju et al., MICCAI 2022): begin with typical images, ask for more as classes prove hard.

1. Without labels: two views of an image are drawn together, so that features owe nothing to class sizes.
2. Anchors: of every class the images nearest to its mean feature, fewer of large classes. The classifier learns on
   them.
3. Curriculum: before some epochs the network is asked, in several passes, how it does on the images that it has not yet
   learned on. Classes with a low accuracy get more of the new images; of a class, those come first on which the passes
   disagree most (BALD).

What images an epoch draws is `extra['draw']`, see `engine.stage`. Readings, where the paper is open or we differ:
class k begins with n_min^(1-s) n_k^s anchors. The passes are random views, since the networks here have no dropout.
Accuracy is that on training images not in use (on all of a class that has none left), so that validation images stay
for choosing a round. Queries come after a number of epochs rather than at a plateau, and the optimiser goes on. An
epoch has as many steps as for other methods, however few images are in use.
"""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import losses
from ltjax.engine.stage import Recipe, Run
from ltjax.engine.state import TrainState
from ltjax.engine.streams import STATE
from ltjax.errors import UserError
from ltjax.losses.heads import unit_vectors
from ltjax.methods import contrastive
from ltjax.methods.supervised.stage import Learning, supervised_stage
from ltjax.methods.task import Task
from ltjax.settings import at_least, from_to, positive

Share = Annotated[float, from_to(0, 1)]


@dataclasses.dataclass(frozen=True)
class Query:
    """When the images in use become more, and by which.

    Attributes:
      after: the epoch of the first query; before it the anchors are all.
      every: epochs from one query to the next.
      share: of all training images that a query adds, while there are any.
      passes: over the training images, each through a random view.
      floor: accuracy that a class of less counts with; 0.1: no class is more than ten times as hard as another.
      draw: of the images in use: each by the difficulty of its class, or all alike ('uniform').
    """

    after: Annotated[int, at_least(0)]
    every: Annotated[int, at_least(1)]
    share: Share
    passes: Annotated[int, at_least(2)]
    floor: Annotated[float, positive(), from_to(0, 1)]
    draw: Literal['difficulty', 'uniform']


@dataclasses.dataclass(frozen=True)
class Config:
    """The values of flexible sampling.

    Attributes:
      pretrain: the stage without labels, see `contrastive`.
      train: the curriculum; its sampler has to be 'instance_balanced', in whose place the state draws.
      anchors: s; 0: as many of each class as the smallest has, 1: all images.
      query: the queries.
    """

    pretrain: contrastive.Train
    train: Learning
    anchors: Share
    query: Query


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the stage without labels and the curriculum.

    Raises:
      UserError: parts that do not fit together.
    """
    if config.train.sampler != 'instance_balanced':
        raise UserError(
            f'train.sampler is {config.train.sampler!r}, but flexible sampling draws by difficulty itself: leave it '
            "at 'instance_balanced'."
        )
    view = task.view(config.train.view)

    def begin(state: TrainState, run: Run) -> TrainState:
        features = unit_vectors(run.train_features(state))
        anchors = nearest(features, run.train_labels, anchor_counts(task, config.anchors))
        return _in_use(state, anchors, np.ones(len(anchors)))

    def ask(state: TrainState, run: Run, round_: int) -> TrainState:
        in_use = np.asarray(state.extra['in_use'])
        if not _asks(config.query, round_) or in_use.all():
            return state
        passes = [
            run.train_logits(state, view, run.key('query', round_ * config.query.passes + each))
            for each in range(config.query.passes)
        ]
        probabilities = np.asarray(jax.nn.softmax(np.stack(passes)))
        accuracy = accuracies(probabilities.mean(axis=0), run.train_labels, in_use)
        number = round(config.query.share * len(in_use))
        hard = losses.difficulty_weights(accuracy, floor=config.query.floor)
        new = queried(losses.bald(probabilities), run.train_labels, in_use, hard, number)
        by_class = hard if config.query.draw == 'difficulty' else np.ones(task.num_classes)
        return _in_use(state, in_use | new, by_class[run.train_labels])

    stage = supervised_stage(config.train, task, name='curriculum', prepare=begin)
    update = dataclasses.replace(stage.updates[0], sampler=STATE)
    told = [{'images_in_use': number} for number in _numbers_in_use(config, task)]
    curriculum = dataclasses.replace(stage, updates=(update,), before_round=ask, told=told)

    features = contrastive.first_stage(config.pretrain, task)
    return Recipe((features, curriculum), contrastive.add_projection(config.pretrain))


def _asks(query: Query, round_: int) -> bool:
    return round_ >= query.after and (round_ - query.after) % query.every == 0


def _numbers_in_use(config: Config, task: Task) -> list[int]:
    """Returns how many images are in use in each epoch."""
    number, images = int(anchor_counts(task, config.anchors).sum()), int(task.train_counts.sum())
    found = []
    for round_ in range(config.train.epochs):
        if _asks(config.query, round_):
            number = min(images, number + round(config.query.share * images))
        found.append(number)
    return found


def _in_use(state: TrainState, in_use: np.ndarray, weights: np.ndarray) -> TrainState:
    """Returns a state whose next rounds draw the images in use [N], by weights [N]."""
    shares = np.where(in_use, weights, 0.0)
    draw = jnp.asarray(shares / shares.sum(), jnp.float32)
    return state._replace(extra=state.extra | {'in_use': jnp.asarray(in_use), 'draw': draw})


def anchor_counts(task: Task, exponent: float) -> np.ndarray:
    """Returns the anchors of each class, n_min^(1-s) n_k^s rounded: int64 [K], 1 or more of a class with images."""
    counts = np.asarray(task.train_counts, np.float64)
    smallest = counts[counts > 0].min()
    wanted = np.rint(smallest ** (1 - exponent) * counts**exponent)
    return np.minimum(np.maximum(wanted, 1), counts).astype(np.int64)


def nearest(features: jax.Array, labels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Returns which images are anchors: of each class those nearest to its mean.

    Args:
      features: [N, C].
      labels: int [N].
      numbers: int [K], how many of each class.

    Returns:
      bool [N]; among equals the first come first.
    """
    means = losses.nearest_means(features, jnp.asarray(labels), len(numbers), transform='un')
    away = np.asarray(jnp.square(features - means.centroids[labels]).sum(axis=1))
    return _first_of_each_class(-away, labels, np.ones(len(labels), bool), numbers)


def accuracies(probabilities: np.ndarray, labels: np.ndarray, in_use: np.ndarray) -> np.ndarray:
    """Returns the accuracy of each class on images that are not in use, or on all where none are left: [K].

    Args:
      probabilities: [N, K].
      labels: int [N].
      in_use: bool [N].
    """
    num_classes = probabilities.shape[1]
    right = probabilities.argmax(axis=1) == labels

    def share(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = np.bincount(labels[rows], minlength=num_classes)
        hits = np.bincount(labels[rows & right], minlength=num_classes)
        return hits / np.maximum(images, 1), images

    (on_others, others), (on_all, _) = share(~in_use), share(np.ones_like(in_use))
    return np.where(others > 0, on_others, on_all)


def queried(
    uncertainty: np.ndarray,
    labels: np.ndarray,
    in_use: np.ndarray,
    weights: np.ndarray,
    number: int,
) -> np.ndarray:
    """Returns the images that come into use, of each class the most uncertain.

    Args:
      uncertainty: [N].
      labels: int [N].
      in_use: bool [N].
      weights: [K], in proportion to which the new images are shared out.
      number: of new images, if as many are left.

    Returns:
      bool [N].
    """
    left = np.bincount(labels[~in_use], minlength=len(weights))
    numbers = shared_out(min(number, int(left.sum())), weights, left)
    return _first_of_each_class(uncertainty, labels, ~in_use, numbers)


def shared_out(number: int, weights: np.ndarray, at_most: np.ndarray) -> np.ndarray:
    """Returns how many of `number` each class gets: in proportion to its weight, up to what it has, int64 [K].

    What a class cannot take goes to the others. `number` is not above the sum of `at_most`.
    """
    given = np.zeros(len(weights), np.int64)
    while given.sum() < number:
        missing = number - given.sum()
        open_weights = np.where(given < at_most, weights, 0.0)
        wanted = missing * open_weights / open_weights.sum()
        more = np.minimum(np.floor(wanted).astype(np.int64), at_most - given)
        if not more.any():  # less than one for each: the largest first
            largest = np.argsort(-wanted, kind='stable')[: int((open_weights > 0).sum())]
            more[largest[:missing]] = 1
        given += more
    return given


def _first_of_each_class(
    score: np.ndarray, labels: np.ndarray, among: np.ndarray, numbers: np.ndarray
) -> np.ndarray:
    chosen = np.zeros(len(labels), bool)
    for k, number in enumerate(numbers):
        rows = np.flatnonzero(among & (labels == k))
        chosen[rows[losses.uncertainty_query(score[rows], int(number))]] = True
    return chosen
