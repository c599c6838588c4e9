"""Two stages: learn on all images, then train the classifier, or what is put upon it, anew (Kang et al., 2020)."""

import dataclasses
from typing import Any, Literal

import jax

from ltjax.engine.stage import Recipe, Run, Stage, reset_classifier
from ltjax.engine.state import TrainState
from ltjax.errors import UserError
from ltjax.methods import supervised
from ltjax.methods.supervised.distillation import (
    Distillation,
    distilled,
    teacher_logits,
    teacher_of,
)
from ltjax.methods.supervised.heads import add_head
from ltjax.methods.supervised.logit_losses import LOSSES
from ltjax.methods.supervised.mixing import Mixed
from ltjax.methods.supervised.stage import Learning, supervised_stage
from ltjax.methods.task import Task
from ltjax.models import ImageClassifier
from ltjax.settings import chosen


@dataclasses.dataclass(frozen=True)
class Retraining(Learning):
    """The second stage.

    Attributes:
      trains: 'classifier', a part of it such as 'classifier.scale', or 'all'.
      batch_norm: 'running' keeps the running statistics; 'batch' goes on with them.
      reset_classifier: begin with a new one.
      distil: how near it is held to the network of the first stage.
    """

    trains: str = 'classifier'
    batch_norm: Literal['batch', 'running'] = 'running'
    reset_classifier: bool = True
    distil: Distillation = dataclasses.field(default_factory=Distillation)


@dataclasses.dataclass(frozen=True)
class Config(supervised.Config):
    """The values of a decoupled method: a first stage, and a second."""

    retrain: Retraining


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the supervised stage of `config.train` and the re-training of `config.retrain`.

    Raises:
      UserError: parts that do not fit together.
    """
    first = supervised_stage(config.train, task, head=config.head)
    return Recipe((first, _retraining(config, task)), add_head(config.head, task))


def _retraining(config: Config, task: Task) -> Stage:
    retrain = config.retrain
    shared: dict[str, Any] = {
        'name': 'retrain',
        'head': config.head,
        'trains': retrain.trains,
        'batch_norm': retrain.batch_norm,
    }
    if not retrain.distil.weight:
        prepare = reset_classifier if retrain.reset_classifier else None
        return supervised_stage(retrain, task, prepare=prepare, **shared)
    if retrain.mix.name.startswith('manifold') and not retrain.trains.startswith('classifier'):
        raise UserError(
            f'retrain.distil: its teacher cannot follow mix {retrain.mix.name!r} into the network: '
            'use another, or distil.weight=0.'
        )

    def begin(state: TrainState, run: Run) -> TrainState:
        extra = {'teacher': teacher_of(state, retrain.trains, batch_norm=retrain.batch_norm)}
        if retrain.reset_classifier:
            state = reset_classifier(state, run)
        return state._replace(extra=state.extra | extra)

    def teacher(model: ImageClassifier, extra: Any, mixed: Mixed) -> jax.Array:
        return teacher_logits(model, extra['teacher'], mixed.images, mixed.features, retrain.trains)

    loss = distilled(chosen(LOSSES, retrain.loss)(task), retrain.distil)
    return supervised_stage(retrain, task, prepare=begin, loss=loss, teacher=teacher, **shared)
