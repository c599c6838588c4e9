"""Losses at perturbed weights, whose minima are flat."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax import losses
from ltjax.engine.state import parameter_filter
from ltjax.models import ImageClassifier
from ltjax.settings import Choices, at_least, positive

# network -> scalar to minimise, and what else it says.
Objective = Callable[[ImageClassifier], tuple[jax.Array, Any]]
# (objective, network, key, what trains) -> the objective's values at the weights that the loss is made of.
Sharpness = Callable[[Objective, ImageClassifier, jax.Array, str], tuple[jax.Array, Any]]

SHARPNESS: Choices[Sharpness] = Choices()


@SHARPNESS.add
def none() -> Sharpness:
    """The weights as they are."""
    return lambda objective, model, key, trains: objective(model)


@SHARPNESS.add
def sam(*, rho: Annotated[float, positive()] = 0.05) -> Sharpness:
    """The worst weights within distance rho, to first order (Foret et al., 2021); two passes a step.

    Running statistics and what is logged beside the loss are those of the first pass.
    """

    def value(
        objective: Objective, model: ImageClassifier, key: jax.Array, trains: str
    ) -> tuple[jax.Array, Any]:
        at, parameters = _at(objective, model, trains)
        held = jax.tree.map(jax.lax.stop_gradient, parameters)
        result: Any = jax.grad(_told(at), has_aux=True)(held)
        gradients, told = result
        _, aux, statistics = told
        step = losses.sam_perturbation(gradients, rho=rho)
        worst, _, _ = at(jax.tree.map(jnp.add, parameters, step))
        nnx.update(model, statistics)
        return worst, aux

    return value


@SHARPNESS.add
def box_noise(
    *, bound: Annotated[float, positive()] = 0.01, copies: Annotated[int, at_least(1)] = 2
) -> Sharpness:
    """The mean over weights moved within a box: the flat region that FCD looks for, in our reading."""

    def value(
        objective: Objective, model: ImageClassifier, key: jax.Array, trains: str
    ) -> tuple[jax.Array, Any]:
        at, parameters = _at(objective, model, trains)
        noise = losses.box_noise(key, parameters, copies, bound)
        result, aux, statistics = losses.average_over_noise(at, parameters, noise)
        nnx.update(model, statistics)
        return result, aux

    return value


def _at(
    objective: Objective, model: ImageClassifier, trains: str
) -> tuple[Callable[[Any], tuple[jax.Array, Any, Any]], Any]:
    """Returns parameters -> value, what else it says, running statistics, of copies of `model`; and its parameters."""
    graphdef, state = nnx.split(model)
    parameters, rest = nnx.split_state(state, parameter_filter(trains), ...)

    def at(parameters: Any) -> tuple[jax.Array, Any, Any]:
        copy = nnx.merge(graphdef, parameters, rest, copy=True)
        value, aux = objective(copy)
        return value, aux, nnx.state(copy, nnx.BatchStat)

    return at, parameters


def _told(at: Callable[[Any], tuple[jax.Array, Any, Any]]) -> Callable[[Any], tuple[Any, Any]]:
    def told(parameters: Any) -> tuple[Any, Any]:
        result = at(parameters)
        return result[0], result

    return told
