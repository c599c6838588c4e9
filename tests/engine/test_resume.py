"""A run that is told to end inside a round saves there, and ends with the bits of the undisturbed run."""

import pytest

import tiny

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('traced_once')]

METHODS = ('lmd', 'aduni', 'alpa', 'iccl', 'proco')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module', params=METHODS)
def undisturbed(request, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    made = tiny.config(request.param, data)
    return made, tiny.run(made, folder)


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
        progress = tiny.end_at(made, tmp_path, at)
        assert (progress['stage_name'], progress['round']) == (stage, round_)
        assert progress['inside'] is not None
    resumed, best_resumed, rows_resumed = tiny.run(made, tmp_path)
    assert tiny.same(state, resumed)
    assert best == best_resumed
    numbers = [row['step'] for row in rows_resumed]
    assert tiny.timeless(rows_resumed) == tiny.timeless([r for r in rows if r['step'] in numbers])
