"""Classifier re-training, cRT (Kang et al., 2020): learn on all images, then learn a new classifier class-balanced."""

import dataclasses

from ltjax import losses
from ltjax.engine.stage import Recipe, reset_classifier
from ltjax.methods.task import Supervised, Task, supervised_stage


@dataclasses.dataclass(frozen=True)
class Config:
    """cRT's values: of the first stage and of the classifier's."""

    train: Supervised
    retrain: Supervised


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the supervised stage of `config.train` and the re-training of `config.retrain`."""
    loss = losses.softmax_cross_entropy
    return Recipe(
        (
            supervised_stage('cross_entropy', config.train, task, loss),
            supervised_stage(
                'retrain',
                config.retrain,
                task,
                loss,
                trains='classifier',
                batch_norm='running',
                prepare=reset_classifier,
            ),
        )
    )
