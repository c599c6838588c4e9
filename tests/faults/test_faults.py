"""Kills, damages and changed data: the same command ends a run with the same bits, or refuses what is not its data."""

import pytest

from faults.changes import LAYOUTS
from faults.child import LONGER
from faults.driver import Driver

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.mark.parametrize('method', LONGER)
def test_a_run_killed_and_damaged_at_random_ends_with_the_bits_of_the_undisturbed_one(
    method, tmp_path
):
    driver = Driver(method, tmp_path, seed=2)
    driver.disturb(10)
    assert sum(driver.kills.values()) >= 10
    assert sum(driver.damages.values()) >= 10


@pytest.mark.parametrize('layout', LAYOUTS)
def test_an_interrupted_run_refuses_changed_data_and_names_the_change(tmp_path, layout):
    driver = Driver('iccl', tmp_path, seed=5, layout=layout)
    while sum(driver.changed.values()) < 2:
        driver.kill()
        driver.change()
    driver.compare()
