"""LMD (Pan et al., 2025): relation-aware representation learning, then iterative classifier calibration.

Stage 1 (RRL): the student learns the labels on strongly augmented images and agrees with its EMA teacher, which sees
weakly augmented ones, in the relations between samples, between channels, and in its predictions.
Stage 2 (ICC), J rounds: the M-step trains a re-initialised classifier on virtual features drawn from each
class's Gaussian (VFC); the E-step trains the encoder through the frozen classifier, kept near its class by FDC.
"""

from ltjax.engine.stage import Recipe
from ltjax.methods.lmd import calibration, representation
from ltjax.methods.lmd.settings import READINGS, Config
from ltjax.methods.supervised.stage import plain, supervised_stage
from ltjax.methods.task import Task

__all__ = ['Config', 'recipe']


def recipe(config: Config, task: Task) -> Recipe:
    """Returns stage 1 (`config.rrl`) and stage 2 (`config.icc`, if enabled).

    Raises:
      UserError: batches too small for the classes.
    """
    reading = READINGS[config.variant]
    if config.rrl.enabled:
        first = representation.stage(config.rrl, task, reading)
    else:
        first = supervised_stage(plain(config.rrl), task)
    if not config.icc.enabled:
        return Recipe((first,))
    return Recipe((first, calibration.stage(config.icc, task, reading)))
