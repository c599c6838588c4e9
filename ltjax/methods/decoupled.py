"""Two stages: learn on all images, then train the classifier, or what is put upon it, anew (Kang et al., 2020)."""

import dataclasses
from typing import Annotated, Literal

from ltjax.engine.stage import Recipe, reset_classifier
from ltjax.methods.supervised.heads import HEADS, add_head
from ltjax.methods.supervised.stage import Learning, supervised_stage
from ltjax.methods.task import Task
from ltjax.settings import Choice, choice_of


@dataclasses.dataclass(frozen=True)
class Retraining(Learning):
    """The second stage.

    Attributes:
      trains: 'classifier', a part of it such as 'classifier.scale', or 'all'.
      batch_norm: 'running' keeps the running statistics; 'batch' goes on with them.
      reset_classifier: begin with a new one.
    """

    trains: str = 'classifier'
    batch_norm: Literal['batch', 'running'] = 'running'
    reset_classifier: bool = True


@dataclasses.dataclass(frozen=True)
class Config:
    """The values of a decoupled method.

    Attributes:
      head: the classifier.
      train: the first stage.
      retrain: the second.
    """

    head: Annotated[Choice, choice_of(HEADS)]
    train: Learning
    retrain: Retraining


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the supervised stage of `config.train` and the re-training of `config.retrain`.

    Raises:
      UserError: parts that do not fit together.
    """
    retrain = config.retrain
    first = supervised_stage(config.train, task, head=config.head)
    second = supervised_stage(
        retrain,
        task,
        name='retrain',
        head=config.head,
        trains=retrain.trains,
        batch_norm=retrain.batch_norm,
        prepare=reset_classifier if retrain.reset_classifier else None,
    )
    return Recipe((first, second), add_head(config.head, task))
