"""SIGTERM and SIGINT: at once where there is nothing to save, after the step where there is."""

import gc
import json
import os
import signal
import sys
import threading
import weakref

import pytest

import tiny
from ltjax.engine import preemption, rounds
from ltjax.engine.logbook import Logbook
from ltjax.engine.preemption import Interruption
from ltjax.engine.safeguards import Safeguards
from ltjax.errors import TRY_AGAIN, Preempted
from ltjax.run import train

pytestmark = pytest.mark.usefixtures('traced_once')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_with_nothing_to_save_ends_the_run_at_once(number):
    before = signal.getsignal(number)
    with pytest.raises(Preempted, match=f'{number.name}: ended at once') as end, Interruption():
        signal.raise_signal(number)
    assert end.value.code == TRY_AGAIN == 75
    assert signal.getsignal(number) is before


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_kept_until_someone_asks_and_the_second_is_not(number):
    with Interruption() as interruption:
        interruption.defer()
        assert not interruption.reached(1)
        signal.raise_signal(number)
        assert interruption.reached(2)
        assert interruption.reached(3)
        assert interruption.signal == number.name
        with pytest.raises(Preempted):
            signal.raise_signal(number)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_nobody_asks_for_any_more_is_passed_on(number):
    """It comes after the last step: the run is done, but others may be about to begin."""

    def run():
        with Interruption() as interruption:
            interruption.defer()
            signal.raise_signal(number)
            interruption.defer(False)

    with pytest.raises(Preempted, match=f'{number.name}: this run is done') as end:
        run()
    assert end.value.code == TRY_AGAIN


def test_a_failure_is_not_hidden_by_a_signal():
    def run():
        with Interruption() as interruption:
            interruption.defer()
            signal.raise_signal(signal.SIGTERM)
            raise ValueError('full')

    with pytest.raises(ValueError, match='full'):
        run()


def test_another_thread_than_the_main_one_leaves_signals_alone():
    handlers = []

    def enter():
        with Interruption():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.slow
@pytest.mark.parametrize('at', [1, 3, 4])
def test_a_run_that_is_told_to_end_saves_and_is_gone_on_with(data, tmp_path, monkeypatch, at):
    made = tiny.config('cross_entropy', data, {'num_bootstrap': 2})
    asked = Safeguards.stop

    def stop(self, step, *count):
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return asked(self, step, *count)

    with monkeypatch.context() as patch:
        patch.setattr(Safeguards, 'stop', stop)
        patch.setattr(rounds, 'STEPS_PER_CALL', 1)
        with pytest.raises(
            Preempted, match=f'SIGTERM: saved at step {at} of 6; the same command goes on'
        ):
            train.run(made, tmp_path / 'run')
    steps = {int(path.name) for path in (tmp_path / 'run' / 'checkpoints').iterdir()}
    assert max(steps) == at
    whole = train.run(made, tmp_path / 'whole')
    assert train.run(made, tmp_path / 'run') | {'seconds': 0} == whole | {'seconds': 0}
    rows = [
        [
            json.loads(line)
            for line in (tmp_path / name / 'metrics.jsonl').read_text('utf-8').splitlines()
        ]
        for name in ('run', 'whole')
    ]
    assert tiny.timeless(rows[0]) == tiny.timeless(rows[1])


@pytest.mark.slow
def test_a_run_that_is_told_to_end_while_it_reads_its_data_ends_at_once(
    data, tmp_path, monkeypatch
):
    made = tiny.config('cross_entropy', data)

    def begin(self, rows, *, step):
        raise AssertionError('training began')

    monkeypatch.setattr(Logbook, 'begin', begin)
    monkeypatch.setattr(train.datasets, 'load', lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Preempted, match='ended at once'):
        train.run(made, tmp_path)


class Caller:
    """Calls a function when it is collected: from the callback of a weak reference, or from its finaliser."""

    def __init__(self, function, how):
        self.itself = self  # only the collector of cycles can free it
        self.function = function if how == 'finaliser' else lambda: None
        if how == 'weak reference':
            REFERENCES.append(weakref.ref(self, lambda _: function()))

    def __del__(self):
        self.function()


REFERENCES: list[weakref.ref] = []


def collected(function, how):
    Caller(function, how)
    gc.collect()
    REFERENCES.clear()


@pytest.fixture
def forgotten(monkeypatch):
    """The exceptions that Python would print and forget."""
    found = []
    monkeypatch.setattr(sys, 'unraisablehook', lambda told: found.append(told.exc_type))
    return found


def term():
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize('how', ['finaliser', 'weak reference'])
def test_a_signal_inside_a_finaliser_is_not_lost(forgotten, how):
    def run():
        with Interruption() as interruption:
            collected(term, how)
            assert forgotten == [Preempted]  # Python has swallowed it, and goes on here
            interruption.defer()

    with pytest.raises(Preempted, match='SIGTERM: ended at once'):
        run()
    with Interruption() as interruption:
        interruption.defer()
        collected(term, how)
        assert interruption.reached(1)
        collected(term, how)  # the second one's end is lost, but not the first
        assert interruption.reached(2)
    assert forgotten == [Preempted, Preempted]


@pytest.mark.slow
@pytest.mark.parametrize('how', ['finaliser', 'weak reference'])
def test_a_run_that_is_told_to_end_inside_a_finaliser_ends(
    data, tmp_path, monkeypatch, forgotten, how
):
    made = tiny.config('cross_entropy', data, {'num_bootstrap': 2})
    asked, load = Safeguards.stop, train.datasets.load

    def stop(self, step, *count):
        if step == 2:
            collected(term, how)
        return asked(self, step, *count)

    def loaded(settings):
        collected(term, how)
        return load(settings)

    with monkeypatch.context() as patch:
        patch.setattr(train.datasets, 'load', loaded)
        with pytest.raises(Preempted, match='SIGTERM: ended at once'):
            train.run(made, tmp_path)
    assert forgotten == [Preempted]
    assert not list((tmp_path / 'checkpoints').iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(Safeguards, 'stop', stop)
        patch.setattr(rounds, 'STEPS_PER_CALL', 1)
        with pytest.raises(Preempted, match='SIGTERM: saved at step 2 of 6'):
            train.run(made, tmp_path)
    assert train.run(made, tmp_path)['best']


def test_several_processes_count_how_often_they_ask(monkeypatch):
    """JAX stops all of them at one number; steps of which fifty are one call would pass it by."""
    asked = []
    monkeypatch.setattr(preemption.jax.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(
        preemption.multihost_utils,
        'reached_preemption_sync_point',
        lambda number: asked.append(number) or number == 3,
    )
    interruption = Interruption()
    assert [interruption.reached(step) for step in (50, 100, 150, 170)] == [
        False,
        False,
        True,
        True,
    ]
    assert asked == [1, 2, 3]
