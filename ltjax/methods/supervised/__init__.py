"""One supervised stage put together of small parts: head, mixing, loss, weights, selection, deferral, sharpness.

Most baselines of the papers' tables are a choice of parts: a file of configs/ each. Other families use the same stage.
"""

import dataclasses
from typing import Annotated

from ltjax.engine.stage import Recipe
from ltjax.methods.supervised.heads import HEADS, add_head
from ltjax.methods.supervised.stage import Learning, supervised_stage
from ltjax.methods.task import Task
from ltjax.settings import Choice, choice_of

__all__ = ['Config', 'recipe']


@dataclasses.dataclass(frozen=True)
class Config:
    """The values of a method of one supervised stage.

    Attributes:
      head: the classifier.
      train: the stage.
    """

    head: Annotated[Choice, choice_of(HEADS)]
    train: Learning


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the one stage that `config` describes.

    Raises:
      UserError: parts that do not fit together.
    """
    stage = supervised_stage(config.train, task, head=config.head)
    return Recipe((stage,), add_head(config.head, task))
