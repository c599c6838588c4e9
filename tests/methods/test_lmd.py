"""LMD: every switch changes what it says and runs to the end; who moves what; the teacher; the variants."""

import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax.engine.state import flatten
from ltjax.methods.lmd.settings import READINGS
from ltjax.run import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('traced_once')]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def watched(data, tmp_path_factory):
    """The unchanged run: the state before and after each step [(update, before, after)], and its result."""
    return tiny.watch(tiny.config('lmd', data, tiny.LAST), tmp_path_factory.mktemp('watched'))


@pytest.fixture(scope='module')
def first_stage(data, tmp_path_factory):
    """Workdir of a run whose first stage the others take over."""
    folder = tmp_path_factory.mktemp('first')
    train.run(tiny.config('lmd', data, tiny.LAST), folder)
    return folder


# Who moves what.


def test_the_factory_makes_all_three_updates(watched):
    steps, _ = watched
    assert [name for name, _, _ in steps] == ['train'] * 6 + (['m_step'] * 2 + ['e_step'] * 3) * 2


def test_the_m_step_moves_the_classifier_and_nothing_else(watched):
    for name, before, after in watched[0]:
        if name == 'm_step':
            assert tiny.moved(before, after) == set(tiny.parameters(before, 'classifier'))
            assert tiny.same(before.extra, after.extra)
            assert tiny.same(before.optimizers['e_step'], after.optimizers['e_step'])


def test_the_e_step_moves_the_encoder_and_nothing_else(watched):
    for name, before, after in watched[0]:
        if name == 'e_step':
            encoder = set(tiny.parameters(before, 'encoder'))
            statistics = set(flatten(nnx.split_state(before.model, nnx.BatchStat, ...)[0]))
            assert encoder <= tiny.moved(before, after) <= encoder | statistics
            assert tiny.same(before.extra, after.extra)
            assert tiny.same(before.optimizers['m_step'], after.optimizers['m_step'])


def test_the_classifier_starts_anew_once_and_the_encoder_goes_on(watched):
    steps, _ = watched
    end = [after for name, _, after in steps if name == 'train'][-1]
    m_steps = [(before, after) for name, before, after in steps if name == 'm_step']
    start = m_steps[0][0]
    for name, old in tiny.parameters(end, 'classifier').items():
        new = tiny.parameters(start, 'classifier')[name]
        assert not np.any(new == old)
        assert np.abs(new).max() <= 16**-0.5  # drawn anew: uniform within 1 / sqrt(features)
    assert tiny.same(tiny.parameters(end, 'encoder'), tiny.parameters(start, 'encoder'))
    second_round = m_steps[2][0]
    assert tiny.same(
        tiny.parameters(m_steps[1][1], 'classifier'), tiny.parameters(second_round, 'classifier')
    )


def test_the_teacher_is_the_moving_average_of_the_students_parameters(watched):
    steps = [(before, after) for name, before, after in watched[0] if name == 'train']
    start, first = steps[0]
    assert set(flatten(first.extra['teacher'])) == set(tiny.parameters(first))
    assert tiny.same(flatten(start.extra['teacher']), tiny.parameters(start))
    assert tiny.same(flatten(first.extra['teacher']), tiny.parameters(first))
    for number, (before, after) in enumerate(steps):
        alpha = min(1 - 1 / (number + 1), 0.999)
        for name, teacher in flatten(after.extra['teacher']).items():
            expected = alpha * flatten(before.extra['teacher'])[name]
            expected = expected + (1 - alpha) * tiny.parameters(after)[name]
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
    assert tiny.finite(state, rows)
    assert len(rows) == 2
    base = [after for name, _, after in watched[0] if name == 'train'][-1]
    assert not tiny.same(tiny.parameters(state), tiny.parameters(base))
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
    made = tiny.config('lmd', data, tiny.LAST | {'start_from': str(first_stage)} | named)
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
    assert tiny.finite(state, rows)
    rounds = changes.get('icc.rounds', 2)
    assert [row['round'] for row in rows] == list(range(rounds))
    assert best['round'] == rounds - 1
    base = watched[1][0]
    for trains in ('encoder', 'classifier') if what == 'all' else (what,):
        assert not tiny.same(tiny.parameters(state, trains), tiny.parameters(base, trains)), trains
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
    assert loose == pytest.approx(none, rel=1e-5)
    without = flatten(ends[2][0].model)
    for name, value in flatten(
        ends[1][0].model
    ).items():  # compiled otherwise: equal but for rounding
        np.testing.assert_allclose(value, without[name], rtol=1e-4, atol=1e-6)


def test_without_e_steps_the_encoder_stays_bit_for_bit(watched, data, first_stage, tmp_path):
    state, _, rows = second_stage(data, first_stage, tmp_path, {'icc.e_steps': 0})
    end = [after for name, _, after in watched[0] if name == 'train'][-1]
    changed = tiny.moved(end, state)
    assert changed == set(tiny.parameters(state, 'classifier'))
    assert 'e_step_loss' not in rows[0]


def test_the_authors_e_step_gives_the_encoder_no_gradient_of_the_labels(
    watched, data, first_stage, tmp_path
):
    changes = {'icc.fdc': False, 'icc.e_optimizer.weight_decay': 0.0}
    end = [after for name, _, after in watched[0] if name == 'train'][-1]
    authors, _, rows = second_stage(
        data, first_stage, tmp_path / 'authors', {'variant': 'authors'} | changes
    )
    assert tiny.same(tiny.parameters(authors, 'encoder'), tiny.parameters(end, 'encoder'))
    assert rows[0]['e_step_gradient_norm'] == 0
    default, _, rows = second_stage(data, first_stage, tmp_path / 'default', changes)
    assert not tiny.same(tiny.parameters(default, 'encoder'), tiny.parameters(end, 'encoder'))
    assert rows[0]['e_step_gradient_norm'] > 0


def test_the_authors_minimise_repulsion_minus_attraction(data, first_stage, tmp_path):
    _, _, rows = second_stage(
        data, first_stage, tmp_path, {'variant': 'authors', 'icc.lambda_e': 0.5}
    )
    expected = rows[0]['e_step_label_loss'] - 0.5 * rows[0]['e_step_fdc']
    assert rows[0]['e_step_loss'] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('variant', sorted(READINGS))
def test_a_class_of_one_image_runs_to_the_end(tmp_path, variant):
    path = tiny.npz(tmp_path / 'data.npz', **tiny.arrays((32, 16, 1)))
    made = tiny.config('lmd', path, {'method.variant': variant})
    state, _, rows = tiny.run(made, tmp_path / 'run')
    assert tiny.finite(state, rows)
