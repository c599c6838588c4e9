"""Logit adjustment (Menon et al., 2021): cross-entropy on logits + tau log prior; plain logits at test."""

import dataclasses
import functools

import jax.numpy as jnp

from ltjax import losses
from ltjax.engine.stage import Recipe
from ltjax.methods.task import Supervised, Task, supervised_stage


@dataclasses.dataclass(frozen=True)
class Config:
    """Logit adjustment's values: `tau` times the log prior is added."""

    train: Supervised
    tau: float


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the one supervised stage that `config.train` and `config.tau` describe."""
    log_prior = jnp.asarray(losses.log_prior(task.train_counts), jnp.float32)
    loss = functools.partial(losses.logit_adjusted, log_prior=log_prior, tau=config.tau)
    return Recipe((supervised_stage('logit_adjustment', config.train, task, loss),))
