"""Classifier re-training, cRT (Kang et al., 2020): learn on all images, then learn a new classifier class-balanced."""

from typing import Any

from ltjax import losses
from ltjax.engine.stage import Recipe, reset_classifier
from ltjax.methods.task import Task, supervised_stage


def recipe(config: Any, task: Task) -> Recipe:
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
