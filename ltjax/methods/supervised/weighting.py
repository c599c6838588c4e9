"""Weights of the classes in a loss."""

from typing import Annotated

import numpy as np

from ltjax import losses
from ltjax.methods.task import Task
from ltjax.settings import Choices, from_to_below, positive

WEIGHTS: Choices[np.ndarray] = Choices()


@WEIGHTS.add
def none(task: Task) -> np.ndarray:
    """All classes alike: [K]."""
    return np.ones(task.num_classes)


@WEIGHTS.add
def effective_number(
    task: Task, *, beta: Annotated[float, from_to_below(0, 1)] = 0.9999
) -> np.ndarray:
    """By the effective number of images (Cui et al., 2019): [K]."""
    return losses.effective_number_weights(task.train_counts, beta=beta)


@WEIGHTS.add
def inverse_frequency(task: Task, *, power: Annotated[float, positive()] = 1.0) -> np.ndarray:
    """By one over the number of images, or over a power of it (DisAlign's generalised re-weighting): [K]."""
    return losses.inverse_frequency_weights(task.train_counts, power=power)


@WEIGHTS.add
def negative_log(task: Task) -> np.ndarray:
    """By the logarithm of rarity, as MONICA has it: [K]."""
    return losses.negative_log_weights(task.train_counts)
