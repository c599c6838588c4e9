"""Train once, then adjust the classifier without training; the strength is chosen on validation images.

The second stage has rounds without steps: each tries a value, and the best validated one is kept.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import losses
from ltjax.engine.stage import Recipe, Run, Stage
from ltjax.engine.state import TrainState, with_leaves
from ltjax.errors import UserError, unknown
from ltjax.methods import supervised
from ltjax.methods.supervised.heads import RULES, add_head
from ltjax.methods.supervised.stage import supervised_stage
from ltjax.methods.task import Task
from ltjax.settings import Choice, Choices, choice_of, chosen

Values = tuple[float, ...]


class Adjustment(NamedTuple):
    """What may be done to a trained classifier.

    Attributes:
      name: of the value that is chosen.
      values: that are tried.
      adjusted: (the classifier's arrays as they were trained, value, state, run) -> those that change.
      head: name of the classifier that it needs.
    """

    name: str
    values: Sequence[Any]
    adjusted: Callable[[Mapping[str, jax.Array], Any, TrainState, Run], dict[str, Any]]
    head: str = 'linear'


ADJUSTMENTS: Choices[Adjustment] = Choices()


@ADJUSTMENTS.add
def tau_norm(task: Task, *, tau: Values) -> Adjustment:
    """Weights divided by their length to the power tau, without bias (Kang et al., 2020)."""

    def adjusted(
        trained: Mapping[str, jax.Array], value: float, state: TrainState, run: Run
    ) -> dict[str, Any]:
        kernel = losses.tau_normalised(trained['kernel'].T, tau=value).T
        return {'kernel': kernel, 'bias': jnp.zeros_like(trained['bias'])}

    return Adjustment('tau', tau, adjusted)


@ADJUSTMENTS.add
def prior(task: Task, *, tau: Values) -> Adjustment:
    """Logits - tau log prior (Menon et al., 2021), in the bias."""
    log_prior = jnp.asarray(losses.log_prior(task.train_counts), jnp.float32)

    def adjusted(
        trained: Mapping[str, jax.Array], value: float, state: TrainState, run: Run
    ) -> dict[str, Any]:
        return {'bias': trained['bias'] - value * log_prior}

    return Adjustment('tau', tau, adjusted)


@ADJUSTMENTS.add
def direct_effect(task: Task, *, alpha: Values) -> Adjustment:
    """How much of the mean direction is taken out (Tang et al., 2020)."""

    def adjusted(
        trained: Mapping[str, jax.Array], value: float, state: TrainState, run: Run
    ) -> dict[str, Any]:
        return {'alpha': jnp.asarray(value, jnp.float32)}

    return Adjustment('alpha', alpha, adjusted, head='deconfounded')


@ADJUSTMENTS.add
def nearest_mean(task: Task, *, rules: tuple[str, ...]) -> Adjustment:
    """The nearest mean of the training features, by one of the rules of `heads.RULES` (Kang et al., 2020)."""
    for rule in rules:
        if rule not in RULES:
            raise unknown('rule', rule, RULES)

    def adjusted(
        trained: Mapping[str, jax.Array], value: str, state: TrainState, run: Run
    ) -> dict[str, Any]:
        means = losses.nearest_means(
            run.train_features(state),
            jnp.asarray(run.train_labels),
            run.num_classes,
            transform=RULES[value][0],
        )
        number = 1 + list(RULES).index(value)
        return means._asdict() | {'rule': np.int32(number)}

    return Adjustment('rule', rules, adjusted, head='nearest_mean')


@dataclasses.dataclass(frozen=True)
class Config(supervised.Config):
    """The values of a method that adjusts: a first stage, then what is adjusted and the values that are tried."""

    adjust: Annotated[Choice, choice_of(ADJUSTMENTS)]


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the supervised stage of `config.train`, and the rounds that try the values of `config.adjust`.

    Raises:
      UserError: parts that do not fit together.
    """
    adjustment = chosen(ADJUSTMENTS, config.adjust)(task)
    if config.head.name != adjustment.head:
        raise UserError(
            f'adjust {config.adjust.name!r} does not fit head {config.head.name!r}: '
            f'use head.name={adjustment.head!r}.'
        )
    if not adjustment.values:
        raise UserError(f'adjust.{adjustment.name} names no value to try: give one or more.')
    first = supervised_stage(config.train, task, head=config.head)

    def keep(state: TrainState, run: Run) -> TrainState:
        trained = {name: jnp.copy(value[...]) for name, value in state.model['classifier'].items()}
        return state._replace(extra={'classifier': trained})

    def adjust(state: TrainState, run: Run, round_: int) -> TrainState:
        trained = state.extra['classifier']
        changes = adjustment.adjusted(trained, adjustment.values[round_], state, run)
        named = {f'classifier.{name}': value for name, value in changes.items()}
        return state._replace(model=with_leaves(state.model, named))

    second = Stage(
        config.adjust.name,
        (),
        rounds=len(adjustment.values),
        prepare=keep,
        before_round=adjust,
        told=[{adjustment.name: value} for value in adjustment.values],
    )
    return Recipe((first, second), add_head(config.head, task))
