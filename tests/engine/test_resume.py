"""A run that is told to end inside a round saves there, and ends with the bits of the undisturbed run."""

import contextlib

import pytest

import tiny
from ltjax.engine import loop, rounds
from ltjax.engine.preemption import Interruption
from ltjax.errors import Preempted

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('traced_once')]

METHODS = ('lmd', 'aduni', 'alpa', 'iccl', 'proco')


class EndAt(Interruption):
    """Asks the run to end after one step of it."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def reached(self, step):
        return step == self.step


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module', params=METHODS)
def undisturbed(request, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    made = tiny.config(request.param, data)
    return made, tiny.run(made, folder)


def end_at(made, folder, step):
    """Trains until after `step`, inside a round; returns the progress saved there."""
    trained = tiny.training(made, folder)
    trained.safeguards.interruption = EndAt(step)
    with (
        contextlib.closing(trained.checkpoints) as checkpoints,
        pytest.MonkeyPatch.context() as patch,
    ):
        # Steps that are made many a call end with a call; the bits do not depend on how many.
        patch.setattr(rounds, 'STEPS_PER_CALL', 1)
        with pytest.raises(Preempted, match=rf'saved at step {step} of'):
            loop.run(trained)
        return checkpoints.progress(step)


def test_a_run_ended_inside_every_update_gives_the_same_bits(undisturbed, tmp_path):
    made, (state, best, rows) = undisturbed
    trained = tiny.training(made, tmp_path)
    trained.checkpoints.close()
    places, step = {}, 0
    for stage in trained.recipe.stages:
        for round_ in range(stage.rounds):
            for update in stage.updates:
                if update.steps > 1:
                    places[step + 1 + round_ % (update.steps - 1)] = (
                        stage.name,
                        round_,
                        update.name,
                    )
                step += update.steps
    assert places
    for at, (stage, round_, _) in places.items():
        progress = end_at(made, tmp_path, at)
        assert (progress['stage_name'], progress['round']) == (stage, round_)
        assert progress['inside'] is not None
    resumed, best_resumed, rows_resumed = tiny.run(made, tmp_path)
    assert tiny.same(state, resumed)
    assert best == best_resumed
    numbers = [row['step'] for row in rows_resumed]
    assert tiny.timeless(rows_resumed) == tiny.timeless([r for r in rows if r['step'] in numbers])
