"""The one training loop: the stages of a recipe, round by round, each round validated and saved."""

import contextlib
import pathlib
from typing import Any

from flax import nnx

from ltjax import sharding
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.progress import RoundProgress
from ltjax.engine.rounds import Rounds, lasting
from ltjax.engine.stage import Recipe, Stage
from ltjax.engine.state import LaterStatistic, TrainState, flatten
from ltjax.engine.training import Training
from ltjax.errors import UserError


def run(training: Training) -> tuple[TrainState, dict[str, Any]]:
    """Trains all stages, or what is left of them after the newest checkpoint.

    Returns:
      The selected state, and the progress (stage, round, score) it was saved with.

    Raises:
      NonFiniteLossError: a step's loss, gradient or state is not finite.
      Preempted: the run was asked to end, and is saved.
    """
    training.safeguards.interruption.defer()
    try:
        state = _stages(training)
    finally:
        training.safeguards.interruption.defer(False)
    best = training.progress.best
    if best is None:
        raise ValueError('the last stage of a recipe has no round')
    training.checkpoints.wait()
    if best['checkpoint'] != training.progress.steps_done:
        state = training.checkpoints.restore(best['checkpoint'], state)
    return state, best


def _stages(training: Training) -> TrainState:
    state = TrainState(training.new_model(training.key('model')), {}, {})
    saved = max(training.checkpoints.numbers(), default=None)
    reached = None if saved is None else training.checkpoints.progress(saved)
    first, first_round, inside = 0, 0, None
    if reached is not None:
        first, first_round = reached['stage'], reached['round']
        training.progress.rows, training.progress.best = reached['rows'], reached['best']
        training.safeguards.skipped = reached['skipped']
        if reached['inside'] is None:
            first_round += 1
        else:
            inside = RoundProgress(**reached['inside'])
    elif training.start_from is not None:
        whole = _enter(training, training.recipe.stages[0], state)._replace(optimizers={})
        first, state = 1, _borrow(training.start_from, training.recipe, whole, state)
    elif training.initial is not None:
        model = nnx.merge_state(state.model, training.initial)
        state = state._replace(model=sharding.place_state(model, training.mesh))
    training.logbook.begin(training.progress.rows, step=saved or 0)
    for at, stage in enumerate(training.recipe.stages[first:], first):
        state = _enter(training, stage, state)
        start = first_round if at == first else 0
        training.progress.steps_done = training.recipe.steps_before(at, start)
        if saved is not None and at == first:
            training.progress.steps_done = saved
            state = _restore(training, saved, state)
        rounds = Rounds(training, at)
        for round_ in range(start, stage.rounds):
            state = rounds.run(round_, state, inside)
            inside = None
    return lasting(state)


def _borrow(workdir: pathlib.Path, recipe: Recipe, *likes: TrainState) -> TrainState:
    """Returns the state of another run at the end of the first stage, to take the place of training it.

    Args:
      workdir: of that run.
      recipe: of this one.
      likes: what to take. A run of another method may lack this one's extra state: then the next is taken.

    Raises:
      UserError: there is only one stage, or that run has not finished the first.
    """
    name = recipe.stages[0].name
    if len(recipe.stages) == 1:
        raise UserError('start_from replaces the first stage: this method has no other.')
    with contextlib.closing(Checkpoints(workdir / 'checkpoints', read_only=True)) as theirs:
        for number in theirs.numbers():
            progress = theirs.progress(number)
            if progress['stage_end'] and progress['stage_name'] == name:
                later = nnx.filter_state(likes[-1].model, LaterStatistic)
                optional = flatten(likes[-1]._replace(model=later))
                for like in likes[:-1]:
                    with contextlib.suppress(UserError):
                        return theirs.restore(number, like, optional)
                return theirs.restore(number, likes[-1], optional)
    raise UserError(f'{workdir} has no finished stage {name!r}: start from a run that has.')


def _enter(training: Training, stage: Stage, state: TrainState) -> TrainState:
    """Leaves the stage before: its optimisers and scratch go, those of `stage` come."""
    state = lasting(state)
    if stage.prepare is not None:
        state = stage.prepare(state, training)
    optimizers = {u.name: training.new_optimizer_state(u, state.model) for u in stage.updates}
    return sharding.place_state(state._replace(optimizers=optimizers), training.mesh)


def _restore(training: Training, number: int, like: TrainState) -> TrainState:
    """Returns the state of a checkpoint, with the scratch of its round if it was saved inside one."""
    state = training.checkpoints.restore(number, like)
    scratch = training.checkpoints.scratch(number, sharding.replicated(training.mesh))
    if scratch:
        scratch = sharding.place_state(scratch, training.mesh)
        state = state._replace(extra=state.extra | {'round': scratch})
    return state
