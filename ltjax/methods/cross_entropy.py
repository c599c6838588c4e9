"""Cross-entropy on the training set as it is: the baseline of every table."""

import dataclasses

from ltjax import losses
from ltjax.engine.stage import Recipe
from ltjax.methods.task import Supervised, Task, supervised_stage


@dataclasses.dataclass(frozen=True)
class Config:
    """Cross-entropy's values."""

    train: Supervised


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the one supervised stage that `config.train` describes."""
    loss = losses.softmax_cross_entropy
    return Recipe((supervised_stage('cross_entropy', config.train, task, loss),))
