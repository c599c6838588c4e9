"""LMD: every switch changes what it says and runs to the end; who moves what; the teacher; the variants."""

import jax
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import methods, train
from ltjax.engine import loop
from ltjax.engine.state import flatten, parameter_filter
from ltjax.engine.step import make_step
from ltjax.errors import UserError
from ltjax.methods import lmd
from ltjax.methods.task import Task

LAST = {'select': 'last'}
TASK = Task(np.array(tiny.COUNTS), (0.5,), (0.25,))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def watched(data, tmp_path_factory):
    """The unchanged run, with the state before and after every step: [(update, before, after)]."""
    steps = []

    def watching(*arguments, **options):
        update, step_fn = arguments[0], make_step(*arguments, **options)

        def wrapped(state, *inputs):
            before = jax.device_get(state)
            state, metrics = step_fn(state, *inputs)
            steps.append((update.name, before, jax.device_get(state)))
            return state, metrics

        return wrapped

    folder = tmp_path_factory.mktemp('watched')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, 'make_step', watching)
        result = tiny.run(tiny.config('lmd', data, LAST), folder)
    return steps, result


@pytest.fixture(scope='module')
def first_stage(data, tmp_path_factory):
    """Workdir of a run whose first stage the others take over."""
    folder = tmp_path_factory.mktemp('first')
    train.run(tiny.config('lmd', data, LAST), folder)
    return folder


def parameters(state, trains='all'):
    return flatten(nnx.split_state(state.model, parameter_filter(trains), ...)[0])


def moved(before, after):
    before, after = flatten(before.model), flatten(after.model)
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


def finite(state, rows):
    leaves = [leaf for leaf in jax.tree.leaves(state) if np.issubdtype(leaf.dtype, np.floating)]
    values = [v for row in rows for v in row.values() if isinstance(v, float)]
    return all(np.isfinite(leaf).all() for leaf in leaves) and np.isfinite(values).all()


# Who moves what.


def test_the_factory_makes_all_three_updates(watched):
    steps, _ = watched
    assert [name for name, _, _ in steps] == ['train'] * 6 + (['m_step'] * 2 + ['e_step'] * 3) * 2


def test_the_m_step_moves_the_classifier_and_nothing_else(watched):
    for name, before, after in watched[0]:
        if name == 'm_step':
            assert moved(before, after) == set(parameters(before, 'classifier'))
            assert tiny.same(before.extra, after.extra)
            assert tiny.same(before.optimizers['e_step'], after.optimizers['e_step'])


def test_the_e_step_moves_the_encoder_and_nothing_else(watched):
    for name, before, after in watched[0]:
        if name == 'e_step':
            encoder = set(parameters(before, 'encoder'))
            statistics = set(flatten(nnx.split_state(before.model, nnx.BatchStat, ...)[0]))
            assert encoder <= moved(before, after) <= encoder | statistics
            assert tiny.same(before.extra, after.extra)
            assert tiny.same(before.optimizers['m_step'], after.optimizers['m_step'])


def test_the_classifier_starts_anew_once_and_the_encoder_goes_on(watched):
    steps, _ = watched
    end = [after for name, _, after in steps if name == 'train'][-1]
    m_steps = [(before, after) for name, before, after in steps if name == 'm_step']
    start = m_steps[0][0]
    for name, old in parameters(end, 'classifier').items():
        new = parameters(start, 'classifier')[name]
        assert not np.any(new == old)
        assert np.abs(new).max() <= 16**-0.5  # drawn anew: uniform within 1 / sqrt(features)
    assert tiny.same(parameters(end, 'encoder'), parameters(start, 'encoder'))
    second_round = m_steps[2][0]
    assert tiny.same(
        parameters(m_steps[1][1], 'classifier'), parameters(second_round, 'classifier')
    )


def test_the_teacher_is_the_moving_average_of_the_students_parameters(watched):
    steps = [(before, after) for name, before, after in watched[0] if name == 'train']
    start, first = steps[0]
    assert set(flatten(first.extra['teacher'])) == set(parameters(first))
    assert tiny.same(flatten(start.extra['teacher']), parameters(start))
    assert tiny.same(flatten(first.extra['teacher']), parameters(first))
    for number, (before, after) in enumerate(steps):
        alpha = min(1 - 1 / (number + 1), 0.999)
        for name, teacher in flatten(after.extra['teacher']).items():
            expected = alpha * flatten(before.extra['teacher'])[name]
            expected = expected + (1 - alpha) * parameters(after)[name]
            np.testing.assert_allclose(teacher, expected, rtol=1e-4, atol=1e-6)


# Losses as logged.


def consistency(row):
    return row['sample'] + row['channel'] + row['probability'] / 2


def test_consistency_acts_from_the_start_epoch(watched):
    rows = [row for row in watched[1][2] if row['stage'] == 'rrl']
    weight = tiny.config('lmd', 'any').method.rrl.weight
    assert rows[0]['loss'] == pytest.approx(rows[0]['cross_entropy'], rel=1e-6)
    assert rows[1]['loss'] == pytest.approx(
        rows[1]['cross_entropy'] + weight * consistency(rows[1]), rel=1e-5
    )
    assert weight * consistency(rows[1]) > 1e-4


def test_the_e_step_loss_is_labels_plus_weighted_fdc(watched):
    weight = tiny.config('lmd', 'any').method.icc.lambda_e
    for row in watched[1][2]:
        if row['stage'] == 'icc':
            expected = row['e_step_label_loss'] + weight * row['e_step_fdc']
            assert row['e_step_loss'] == pytest.approx(expected, rel=1e-5)


# Switches of stage 1: they change its end.


@pytest.mark.parametrize(
    'changes',
    [
        {'rrl.weight': 5.0},
        {'rrl.start_epoch': 0},
        {'rrl.enabled': False},
        {'rrl.teacher_view': 'upright_strong'},
        {'rrl.ema_decay': 0.1, 'rrl.start_epoch': 0},
        {'variant': 'paper'},
        {'variant': 'authors', 'rrl.start_epoch': 0, 'rrl.weight': 5.0},
    ],
    ids=str,
)
def test_switches_of_the_first_stage(watched, data, tmp_path, changes):
    named = {f'method.{name}': value for name, value in changes.items()}
    made = tiny.config('lmd', data, {'method.icc.enabled': False} | named)
    state, _, rows = tiny.run(made, tmp_path)
    assert finite(state, rows)
    assert len(rows) == 2
    base = [after for name, _, after in watched[0] if name == 'train'][-1]
    assert not tiny.same(parameters(state), parameters(base))
    if changes.get('rrl.enabled') is False:
        assert {row['stage'] for row in rows} == {'cross_entropy'}
        assert 'sample' not in rows[0]
    else:
        assert {row['stage'] for row in rows} == {'rrl'}
        assert ('teacher' in state.extra) is True
    if changes.get('variant') == 'paper':  # consistency from the start, whatever start_epoch says
        assert rows[0]['loss'] == pytest.approx(
            rows[0]['cross_entropy'] + made.method.rrl.weight * consistency(rows[0]), rel=1e-4
        )


# Switches of stage 2: from the same first stage, they change the end.


def second_stage(data, first_stage, folder, changes):
    named = {f'method.{name}': value for name, value in changes.items()}
    made = tiny.config('lmd', data, LAST | {'start_from': str(first_stage)} | named)
    return tiny.run(made, folder)


def test_the_second_stage_alone_is_that_of_the_whole_run(watched, data, first_stage, tmp_path):
    state, _, rows = second_stage(data, first_stage, tmp_path, {})
    assert tiny.same(state.model, watched[1][0].model)
    assert [row['round'] for row in rows] == [0, 1]


@pytest.mark.parametrize(
    ('changes', 'what'),
    [
        ({'icc.vfc': False}, 'all'),
        ({'icc.fdc': False}, 'encoder'),
        ({'icc.vfc': False, 'icc.fdc': False}, 'all'),
        ({'icc.balanced_e': True}, 'encoder'),
        ({'icc.balanced_m': False}, 'all'),
        ({'icc.vfc': False, 'icc.balanced_m': False}, 'all'),
        ({'icc.rounds': 3}, 'all'),
        ({'icc.virtual_per_class': 17}, 'classifier'),
        ({'icc.lambda_e': 0.1}, 'encoder'),
        ({'icc.statistics': 'ema'}, 'classifier'),
        ({'icc.e_batch_norm': 'running'}, 'encoder'),
        ({'icc.e_view': 'upright_strong'}, 'encoder'),
        ({'variant': 'paper'}, 'all'),
        ({'variant': 'authors'}, 'encoder'),
    ],
    ids=str,
)
def test_switches_of_the_second_stage(watched, data, first_stage, tmp_path, changes, what):
    state, best, rows = second_stage(data, first_stage, tmp_path, changes)
    assert finite(state, rows)
    rounds = changes.get('icc.rounds', 2)
    assert [row['round'] for row in rows] == list(range(rounds))
    assert best['round'] == rounds - 1
    base = watched[1][0]
    for trains in ('encoder', 'classifier') if what == 'all' else (what,):
        assert not tiny.same(parameters(state, trains), parameters(base, trains)), trains
    assert ('e_step_fdc' in rows[0]) is changes.get('icc.fdc', True)


def test_the_cap_on_the_repulsion_binds(data, first_stage, tmp_path):
    ends = [
        second_stage(
            data, first_stage, tmp_path / str(cap),
            {'icc.max_repulsion': cap, 'icc.lambda_e': 0.1, 'icc.rounds': 1},
        )
        for cap in (0.5, 1e9, 0.0)
    ]  # fmt: skip
    capped, loose, none = [rows[0]['e_step_fdc'] for _, _, rows in ends]
    assert capped > loose
    assert loose == none
    assert tiny.same(ends[1][0].model, ends[2][0].model)


def test_without_e_steps_the_encoder_stays_bit_for_bit(watched, data, first_stage, tmp_path):
    state, _, rows = second_stage(data, first_stage, tmp_path, {'icc.e_steps': 0})
    end = [after for name, _, after in watched[0] if name == 'train'][-1]
    changed = moved(end, state)
    assert changed == set(parameters(state, 'classifier'))
    assert 'e_step_loss' not in rows[0]


def test_the_number_of_e_steps(data, first_stage, tmp_path):
    for steps, expected in ((-1, 3), (2, 2)):
        made = tiny.config('lmd', data, {'method.icc.e_steps': steps})
        trained = tiny.training(made, tmp_path / str(steps))
        assert trained.recipe.stages[1].updates[1].steps == expected
        trained.checkpoints.close()


@pytest.mark.parametrize('virtual', [8, 16, 17, 100])
def test_virtual_per_class_sets_the_number_of_m_steps(virtual):
    made = tiny.config('lmd', 'any', {'method.icc.virtual_per_class': virtual})
    made.method.icc.vfc = virtual != 8  # without VFC the number is the same
    update = lmd.recipe(made.method, TASK).stages[1].updates[0]
    assert update.steps == -(-virtual // 8)  # 24 in a batch are 8 of each of the 3 classes


def test_the_authors_e_step_gives_the_encoder_no_gradient_of_the_labels(
    watched, data, first_stage, tmp_path
):
    changes = {'icc.fdc': False, 'icc.e_optimizer.weight_decay': 0.0}
    end = [after for name, _, after in watched[0] if name == 'train'][-1]
    authors, _, rows = second_stage(
        data, first_stage, tmp_path / 'authors', {'variant': 'authors'} | changes
    )
    assert tiny.same(parameters(authors, 'encoder'), parameters(end, 'encoder'))
    assert rows[0]['e_step_gradient_norm'] == 0
    default, _, rows = second_stage(data, first_stage, tmp_path / 'default', changes)
    assert not tiny.same(parameters(default, 'encoder'), parameters(end, 'encoder'))
    assert rows[0]['e_step_gradient_norm'] > 0


def test_the_authors_minimise_repulsion_minus_attraction(data, first_stage, tmp_path):
    _, _, rows = second_stage(
        data, first_stage, tmp_path, {'variant': 'authors', 'icc.lambda_e': 0.5}
    )
    expected = rows[0]['e_step_label_loss'] - 0.5 * rows[0]['e_step_fdc']
    assert rows[0]['e_step_loss'] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('variant', sorted(lmd.READINGS))
def test_a_class_of_one_image_runs_to_the_end(tmp_path, variant):
    path = tiny.npz(tmp_path / 'data.npz', **tiny.arrays((32, 16, 1)))
    made = tiny.config('lmd', path, {'method.variant': variant})
    state, _, rows = tiny.run(made, tmp_path / 'run')
    assert finite(state, rows)


# Mistakes.


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('variant', 'author', "unknown variant 'author': did you mean authors"),
        ('icc.statistics', 'rounds', "unknown source of statistics 'rounds': did you mean round"),
        ('icc.m_batch_size', 2, 'm_batch_size 2 holds less than one feature for each of 3 classes'),
        ('icc.rounds', 0, 'no step'),
        ('icc.virtual_per_class', 0, 'no step'),
        ('rrl.epochs', 0, 'no step'),
        ('rrl.teacher_view', 'weak', "unknown augmentation 'weak'"),
    ],
)
def test_mistakes_in_the_recipe(key, value, message):
    made = tiny.config('lmd', 'any', {f'method.{key}': value})
    with pytest.raises(UserError, match=message):
        lmd.recipe(made.method, TASK)


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('icc.e_batch_size', 20, 'icc/e_step is 20, which 8 devices cannot share evenly: use 16'),
        ('icc.e_batch_norm', 'runing', "unknown batch_norm 'runing': did you mean running"),
    ],
)
def test_mistakes_in_the_second_stage_end_the_run_before_the_first(
    data, tmp_path, key, value, message
):
    made = tiny.config('lmd', data, {f'method.{key}': value})
    with pytest.raises(UserError, match=message):
        tiny.training(made, tmp_path)


def test_get_finds_lmd():
    assert methods.get('lmd') is lmd
