"""Kills, damages and changed data: the same command ends a run with the same bits, or refuses what is not its data."""

import contextlib

import pytest

from faults.changes import LAYOUTS
from faults.child import ACTIONS, LONGER, POINTS
from faults.driver import DAMAGES, Driver

pytestmark = [pytest.mark.slow, pytest.mark.processes]

# As many as there are actions: each strikes, and at each point; each damage is done.
TIMES = len(ACTIONS)


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    """Of these runs alone: who is killed may leave half of a compiled function."""
    return tmp_path_factory.mktemp('xla')


@pytest.mark.parametrize('method', LONGER)
def test_a_run_killed_and_damaged_at_random_ends_with_the_bits_of_the_undisturbed_one(
    method, tmp_path, cache
):
    with contextlib.closing(Driver(method, tmp_path, seed=2, cache=cache)) as driver:
        driver.disturb(TIMES)
    assert sum(driver.kills.values()) >= TIMES
    assert {fault.split()[0] for fault in driver.kills} == set(ACTIONS)
    assert {fault.split()[2] for fault in driver.kills} == set(POINTS)
    assert sum(driver.damages.values()) >= TIMES
    assert {damage.split()[0] for damage in driver.damages} == set(DAMAGES)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_an_interrupted_run_refuses_changed_data_and_names_the_change(tmp_path, cache, layout):
    with contextlib.closing(Driver('iccl', tmp_path, seed=5, layout=layout, cache=cache)) as driver:
        while sum(driver.changed.values()) < 2:
            driver.kill()
            driver.change()
        driver.compare()
