"""NaN: named and stopped at its step, or skipped and counted; saves by steps and clock; the watchdog."""

import json
import math
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from ltjax.engine import loop, safeguards
from ltjax.engine.safeguards import NonFiniteLossError, Safeguards, require_finite
from ltjax.engine.watchdog import Watchdog
from ltjax.errors import UserError
from ltjax.losses import classification
from ltjax.methods.supervised import logit_losses
from ltjax.run import train


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture
def poisoned(monkeypatch):
    """Makes cross-entropy NaN for batches with 11 images of the first class: steps 1 and 5 of six."""

    def loss(logits, labels):
        values = classification.softmax_cross_entropy(logits, labels)
        firsts = (labels == 0).sum()
        return jnp.where(firsts == 11, jnp.nan, values)

    monkeypatch.setattr(logit_losses.losses, 'softmax_cross_entropy', loss)


def config(data, **changes):
    return tiny.config('cross_entropy', data, {'num_bootstrap': 2} | changes)


@pytest.mark.slow
def test_a_bad_step_is_named_with_its_images_and_terms(data, tmp_path, poisoned):
    with pytest.raises(NonFiniteLossError) as error:
        train.run(config(data), tmp_path)
    message = str(error.value)
    assert '\n' not in message
    found = re.search(
        r"loss is nan at step (\d+) of 'train' in stage 'cross_entropy' \(.*loss nan; images (\d+), (\d+),",
        message,
    )
    assert found, message
    assert '--config.on_nonfinite=skip' in message
    incident = json.loads((tmp_path / 'nonfinite.json').read_text('utf-8'))
    assert incident['step'] == int(found[1])
    assert incident['ids']['own'][:2] == [found[2], found[3]]
    labels = tiny.arrays()['labels'][[int(name) for name in incident['ids']['own']]]
    assert (labels == 0).sum() == 11
    assert incident['terms']['loss'] == 'nan'
    assert not (tmp_path / 'results.json').exists()


@pytest.mark.slow
def test_bad_steps_are_skipped_up_to_a_limit(data, tmp_path, poisoned):
    results = train.run(config(data, on_nonfinite='skip'), tmp_path / 'skip')
    rows = [
        json.loads(line)
        for line in (tmp_path / 'skip' / 'metrics.jsonl').read_text('utf-8').splitlines()
    ]
    assert all(math.isfinite(row['loss']) for row in rows)
    assert results['best']['checkpoint'] in (3, 6)
    with pytest.raises(
        NonFiniteLossError, match=r'1 steps were skipped already \(--config.max_skipped\)'
    ):
        train.run(config(data, on_nonfinite='skip', max_skipped=1), tmp_path / 'few')
    with pytest.raises(UserError, match="unknown on_nonfinite 'ignore'.*skip"):
        train.run(config(data, on_nonfinite='ignore'), tmp_path / 'mistake')


@pytest.mark.slow
def test_a_run_that_met_nan_goes_on_with_skip(data, tmp_path, poisoned):
    made = config(data, **{'checkpoint.every_steps': 1})
    with pytest.raises(NonFiniteLossError):
        train.run(made, tmp_path / 'run')
    made.on_nonfinite = 'skip'
    resumed = train.run(made, tmp_path / 'run')
    whole = train.run(config(data, on_nonfinite='skip'), tmp_path / 'whole')
    tested = [results.pop('test') for results in (resumed, whole)]
    assert resumed | {'seconds': 0} == whole | {'seconds': 0}
    # With and without the check a step may round differently, which calibration shows and predicted classes do not.
    for name in ('metrics', 'groups', 'per_class', 'confusion', 'warnings'):
        assert tested[0][name] == tested[1][name]


@pytest.mark.slow
def test_skipping_changes_nothing_as_long_as_all_is_well(data, tmp_path):
    state, _, rows = tiny.run(config(data), tmp_path / 'stop')
    trained = tiny.training(config(data), tmp_path / 'skip')
    trained.safeguards.on_nonfinite = 'skip'
    skipping, _ = loop.run(trained)
    trained.checkpoints.close()
    for a, b in zip(tiny.timeless(rows), tiny.timeless(trained.logbook.rows), strict=True):
        assert a['loss'] == pytest.approx(b['loss'], rel=1e-6)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(skipping), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_leaf_that_is_not_finite_is_named():
    tree = {
        'mean': jnp.ones(3),
        'factors': (jnp.ones(2), jnp.array([1.0, jnp.inf])),
        'n': jnp.arange(3),
    }
    with pytest.raises(NonFiniteLossError, match=r'state factors\.1: not finite before round 3'):
        require_finite(tree, 'before round 3')
    require_finite({'mean': jnp.ones(3), 'n': jnp.arange(3)}, 'never')


def test_saves_are_due_by_steps_and_by_the_clock(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(safeguards.time, 'monotonic', lambda: clock[0])
    both = Safeguards(every_steps=3, every_minutes=2.0)
    due = []
    for step in range(1, 8):
        clock[0] += 30.0
        both.stop(step)
        due.append(both.due())
        if due[-1]:
            both.saved()
    assert due == [False, False, True, False, False, True, False]
    clock[0] += 90.0
    assert both.due()
    never = Safeguards()
    never.stop(1)
    clock[0] += 1e9
    assert not never.due()


@pytest.mark.parametrize('compiles', [True, False])
def test_the_watchdog_tells_a_hang_from_a_compilation(tmp_path, compiles):
    said = tmp_path / 'said'
    with said.open('w', encoding='utf-8') as stream, Watchdog(0.001, stream=stream) as watchdog:
        watchdog.alive('step 7 of icc/m_step', compiles=compiles)
        deadline = time.monotonic() + 60
        while not said.read_text('utf-8') and time.monotonic() < deadline:
            time.sleep(0.02)
    said = said.read_text('utf-8')
    assert said.count('watchdog: step 7 of icc/m_step has taken') == 1
    assert ('may still be compiled' in said) == compiles
    assert ('it hangs' in said and 'test_safeguards.py' in said) == (not compiles)


def test_the_watchdog_is_quiet_while_there_are_steps(tmp_path):
    with (tmp_path / 'said').open('w+', encoding='utf-8') as stream:
        with Watchdog(10.0, stream=stream) as watchdog:
            watchdog.alive('step 1 of train')
        with Watchdog(0.0, stream=stream) as watchdog:
            watchdog.alive('step 1 of train')
    assert (tmp_path / 'said').read_text('utf-8') == ''
