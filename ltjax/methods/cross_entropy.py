"""Cross-entropy on the training set as it is: the baseline of every table."""

from typing import Any

from ltjax import losses
from ltjax.engine.stage import Recipe
from ltjax.methods.task import Task, supervised_stage


def recipe(config: Any, task: Task) -> Recipe:
    """Returns the one supervised stage that `config.train` describes."""
    loss = losses.softmax_cross_entropy
    return Recipe((supervised_stage('cross_entropy', config.train, task, loss),))
