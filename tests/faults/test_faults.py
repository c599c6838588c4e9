"""Twenty kills and twenty damages: whatever befalls a run, the same command ends it with the same bits."""

import pytest

from faults.child import LONGER
from faults.driver import Driver


@pytest.mark.parametrize('method', LONGER)
def test_a_run_killed_and_damaged_at_random_ends_with_the_bits_of_the_undisturbed_one(
    method, tmp_path
):
    driver = Driver(method, tmp_path, seed=2)
    driver.disturb(10)
    assert sum(driver.kills.values()) >= 10
    assert sum(driver.damages.values()) >= 10
