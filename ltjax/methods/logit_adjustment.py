"""Logit adjustment (Menon et al., 2021): cross-entropy on logits + tau log prior; plain logits at test."""

import functools
from typing import Any

import jax.numpy as jnp

from ltjax import losses
from ltjax.engine.stage import Recipe
from ltjax.methods.task import Task, supervised_stage


def recipe(config: Any, task: Task) -> Recipe:
    """Returns the one supervised stage that `config.train` and `config.tau` describe."""
    log_prior = jnp.asarray(losses.log_prior(task.train_counts), jnp.float32)
    loss = functools.partial(losses.logit_adjusted, log_prior=log_prior, tau=config.tau)
    return Recipe((supervised_stage('logit_adjustment', config.train, task, loss),))
