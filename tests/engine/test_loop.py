"""The loop: the same bits again, whatever interrupts it; the best round; what a diverging run leaves."""

import dataclasses
import re

import jax
import numpy as np
import pytest

import tiny
from ltjax import methods, sharding
from ltjax.data import datasets, splits
from ltjax.engine import loop, rounds
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.rounds import Rounds
from ltjax.engine.safeguards import NonFiniteLossError
from ltjax.engine.stage import Recipe, Stage
from ltjax.engine.state import TrainState
from ltjax.errors import UserError
from ltjax.run import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('traced_once')]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def undisturbed(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('undisturbed')
    made = tiny.config('lmd', data)
    return made, folder, tiny.run(made, folder)


class Interrupted(Exception):
    pass


class Failing(Checkpoints):
    """Breaks down instead of saving once more after `at` times."""

    def __init__(self, directory, at):
        super().__init__(directory)
        self.left = at

    def save(self, *arguments):
        if not self.left:
            raise Interrupted
        self.left -= 1
        super().save(*arguments)


def test_the_same_seed_gives_the_same_bits(undisturbed, tmp_path):
    made, _, (state, best, rows) = undisturbed
    again, best_again, rows_again = tiny.run(made, tmp_path)
    assert tiny.same(state, again)
    assert best == best_again
    assert tiny.timeless(rows) == tiny.timeless(rows_again)


def test_another_seed_gives_another_network_on_the_same_split(undisturbed, data, tmp_path):
    _, _, (state, _, _) = undisturbed
    other = tiny.config('lmd', data, {'seed': 1})
    assert not tiny.same(state.model, tiny.run(other, tmp_path)[0].model)


def test_the_seed_of_the_run_does_not_move_the_split(tmp_path):
    path = tiny.npz(tmp_path / 'data.npz', split=None)
    prints = set()
    for seed in (0, 1):
        loaded = datasets.load(tiny.config('lmd', path, {'seed': seed}).data)
        prints.add(splits.fingerprint(loaded.parts, loaded.ids))
    assert len(prints) == 1
    loaded = datasets.load(tiny.config('lmd', path, {'data.split.seed': 1}).data)
    assert splits.fingerprint(loaded.parts, loaded.ids) not in prints


@pytest.mark.parametrize('at', [0, 1, 2, 3])
def test_an_interrupted_run_ends_as_the_undisturbed_one(undisturbed, tmp_path, at):
    made, _, (state, best, rows) = undisturbed
    first = tiny.training(made, tmp_path)
    first.checkpoints.close()
    first.checkpoints = Failing(tmp_path / 'checkpoints', at)
    with pytest.raises(Interrupted):
        loop.run(first)
    first.checkpoints.close()
    second = tiny.training(made, tmp_path)
    assert second.checkpoints.numbers()[-1:] == ([rows[at - 1]['step']] if at else [])
    resumed, best_resumed = loop.run(second)
    assert tiny.same(state, jax.device_get(resumed))
    assert best == best_resumed
    images = second.data.images[second.data.parts['test']]
    logits = second.predict(resumed, images)[1]
    second.checkpoints.close()
    # The round that was cut short is in the log twice; with the first of the two removed the logs are equal.
    assert tiny.timeless(first.logbook.rows[:at] + second.logbook.rows) == tiny.timeless(rows)
    assert np.isfinite(logits).all()


def test_a_finished_training_is_taken_up_from_its_checkpoints(undisturbed):
    made, folder, (state, best, _) = undisturbed
    again, best_again, rows = tiny.run(made, folder)
    assert rows == []
    assert best == best_again
    assert tiny.same(state, again)


def test_predictions_and_results_survive_an_interruption(tmp_path, monkeypatch):
    split = tiny.arrays()['split']
    groups = [f'{side} {k // 4}' for k, side in enumerate(split)]  # a patient is on one side alone
    path = tiny.npz(tmp_path / 'grouped.npz', group=groups)
    made = tiny.config('cross_entropy', path)
    whole = train.run(made, tmp_path / 'whole')
    monkeypatch.setattr(train, 'Checkpoints', lambda directory: Failing(directory, 1))
    with pytest.raises(Interrupted):
        train.run(made, tmp_path / 'cut')
    monkeypatch.undo()
    resumed = train.run(made, tmp_path / 'cut')
    assert whole | {'seconds': 0} == resumed | {'seconds': 0}
    for kept in ('predictions.npz', 'validation.npz'):
        with np.load(tmp_path / 'whole' / kept) as a, np.load(tmp_path / 'cut' / kept) as b:
            assert set(a.files) >= {'logits', 'features', 'ids', 'labels', 'groups', 'class_names'}
            for name in a.files:
                assert a[name].tobytes() == b[name].tobytes()


def scored(monkeypatch, scores):
    """Makes the validation give `scores`, one after another."""
    left = iter(scores)
    monkeypatch.setattr('sklearn.metrics.balanced_accuracy_score', lambda *_: next(left))


@pytest.mark.parametrize(
    ('select', 'scores', 'expected'),
    [
        ('best', (0.2, 0.7, 0.7, 0.1), 1),
        ('best', (0.1, 0.2, 0.3, 0.4), 3),
        ('best', (0.9, 0.2, 0.3, 0.4), 0),
        ('last', (0.9, 0.8, 0.3, 0.4), 3),
    ],
)
def test_the_state_is_that_of_the_first_best_round(
    data, tmp_path, monkeypatch, select, scores, expected
):
    made = tiny.config('cross_entropy', data, {'select': select, 'method.train.epochs': 4})
    scored(monkeypatch, scores)
    kept = []
    monkeypatch.setattr(
        rounds, 'lasting', lambda state: kept.append(jax.device_get(state)) or state
    )
    trained = tiny.training(made, tmp_path)
    state, best = loop.run(trained)
    steps = trained.recipe.stages[0].updates[0].steps
    assert best == {
        'checkpoint': (expected + 1) * steps,
        'stage': 'cross_entropy',
        'round': expected,
        'val_balanced_accuracy': scores[expected],
    }
    assert tiny.same(kept[expected].model, jax.device_get(state).model)
    others = [other for i, other in enumerate(kept[:4]) if i != expected]
    assert not any(tiny.same(other.model, jax.device_get(state).model) for other in others)
    assert trained.checkpoints.numbers() == [(n + 1) * steps for n in sorted({expected, 2, 3})]
    trained.checkpoints.close()


def test_the_best_round_of_an_earlier_stage_does_not_count(data, tmp_path, monkeypatch):
    scored(monkeypatch, (0.9, 0.8, 0.1, 0.2))
    _, best, _ = tiny.run(tiny.config('crt', data), tmp_path)
    assert best == {
        'checkpoint': 12,
        'stage': 'retrain',
        'round': 1,
        'val_balanced_accuracy': 0.2,
    }


def test_the_best_round_is_still_known_after_an_interruption(data, tmp_path, monkeypatch):
    made = tiny.config('cross_entropy', data, {'method.train.epochs': 4})
    scored(monkeypatch, (0.2, 0.7, 0.3, 0.3, 0.1))
    first = tiny.training(made, tmp_path)
    first.checkpoints.close()
    first.checkpoints = Failing(tmp_path / 'checkpoints', 3)
    with pytest.raises(Interrupted):
        loop.run(first)
    first.checkpoints.close()
    assert tiny.run(made, tmp_path)[1]['round'] == 1


def test_a_diverging_run_says_where_and_keeps_its_last_good_checkpoint(data, tmp_path):
    made = tiny.config('lmd', data, {'method.icc.e_optimizer.learning_rate': 1e30})
    made.method.icc.e_optimizer.update({'clip_norm': 0.0})
    with pytest.raises(NonFiniteLossError) as error:
        tiny.run(made, tmp_path)
    message = str(error.value)
    assert re.search(r"at step \d+ of 'e_step' in stage 'icc'", message), message
    assert 'learning rate' in message
    assert '\n' not in message
    trained = tiny.training(made, tmp_path)
    number = trained.checkpoints.numbers()[-1]
    assert trained.checkpoints.progress(number)['stage_name'] == 'rrl'
    state = TrainState(trained.new_model(trained.key('model')), {}, {})
    restored = jax.device_get(trained.checkpoints.restore(number, state).model)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(restored))
    trained.checkpoints.close()


def test_a_first_round_that_diverges_leaves_nothing_behind(data, tmp_path):
    made = tiny.config('cross_entropy', data, {'method.train.optimizer.learning_rate': 1e30})
    with pytest.raises(NonFiniteLossError, match="'train' in stage 'cross_entropy'|after round"):
        train.run(made, tmp_path)
    assert not (tmp_path / 'results.json').exists()
    made.method.train.optimizer.learning_rate = 0.1
    assert train.run(made, tmp_path)['best']['checkpoint'] >= 0


def test_steps_without_images_give_the_same_bits_many_a_call_and_one(data, tmp_path, monkeypatch):
    # 17 steps of the M-step a round: three calls of five steps, and one of two.
    made = tiny.config('lmd', data, {'method.icc.virtual_per_class': 129})
    results = []
    for count in (5, 1):
        monkeypatch.setattr(rounds, 'STEPS_PER_CALL', count)
        results.append(tiny.run(made, tmp_path / str(count)))
    (state, best, rows), (state_one, best_one, rows_one) = results
    assert rows[-1]['step'] == rows_one[-1]['step'] == 2 * 3 + 2 * (17 + 3)
    assert tiny.same(state, state_one)
    assert best == best_one
    assert tiny.timeless(rows) == tiny.timeless(rows_one)


def test_one_device_and_eight_see_the_same_images(data, tmp_path):
    made = tiny.config('cross_entropy', data)
    orders = []
    for name, devices in (('one', jax.devices()[:1]), ('all', None)):
        trained = tiny.training(made, tmp_path / name, mesh=sharding.make_mesh(devices))
        update = trained.recipe.stages[0].updates[0]
        streams = Rounds(trained, 0).runner(update).streams
        orders.append([streams[''][step].tolist() for step in range(5)])
        trained.checkpoints.close()
    assert orders[0] == orders[1]


def test_a_borrowed_first_stage_gives_the_same_bits(undisturbed, data, tmp_path):
    made, _, (state, best, rows) = undisturbed
    first = tmp_path / 'first'
    train.run(made, first)
    made = tiny.config('lmd', data, {'start_from': str(first)})
    borrowed, best_borrowed, rows_borrowed = tiny.run(made, tmp_path / 'second')
    assert tiny.same(state, borrowed)
    assert best_borrowed['round'] == best['round']
    assert tiny.timeless(rows_borrowed) == tiny.timeless(rows[2:])

    for changes, message in (
        ({'seed': 1}, 'differs in seed'),
        ({'model.width': 8}, 'differs in model'),
        ({'data.std': (0.5,)}, 'differs in data'),
    ):
        other = tiny.config('lmd', data, {'start_from': str(first)} | changes)
        with pytest.raises(UserError, match=message):
            tiny.training(other, tmp_path / 'other')
    for name, message in (
        ('cross_entropy', 'this method has no other'),
        ('crt', "has no finished stage 'cross_entropy'"),
    ):
        other = tiny.config(name, data, {'start_from': str(first)})
        with pytest.raises(UserError, match=message):
            tiny.run(other, tmp_path / name)


def test_a_stage_that_makes_no_step_is_refused(tmp_path, monkeypatch):
    """Rounds are numbered by their steps: without any, the first would be restored in place of the best."""
    module = methods.get('cross_entropy')
    shipped = module.recipe

    def with_an_empty_stage(config, task):
        (stage,) = shipped(config, task).stages
        update = dataclasses.replace(stage.updates[0], steps=0)
        return Recipe((stage, Stage('nothing', (update,))))

    monkeypatch.setattr(module, 'recipe', with_an_empty_stage)
    with pytest.raises(ValueError, match="stage 'nothing' makes no step"):
        tiny.training(tiny.config('cross_entropy', tiny.npz(tmp_path / 'd.npz')), tmp_path / 'run')
