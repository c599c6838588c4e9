"""Two processes of two devices each: they compute together, and end together."""

import os
import pathlib
import subprocess
import sys

import pytest

import tiny
from cluster.ports import free_port


def start(*words):
    environment = {'PYTHONPATH': str(tiny.ROOT), 'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '2'}
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tiny.ROOT,
        env=os.environ | environment,
    )


def ends(processes):
    """Returns exit status, stdout and stderr of processes that must end by themselves."""
    try:
        said = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *words) for process, words in zip(processes, said, strict=True)]


def pair(action, who):
    script, port = pathlib.Path(__file__).with_name('with_jax.py'), free_port()
    return ends([start(script, port, process_id, action, who) for process_id in range(2)])


def test_they_sum_over_all_devices_and_end_together():
    first, second = pair('finish', -1)
    assert first[0] == second[0] == 0
    assert 'the sum is 6.0' in first[1]
    assert 'the sum is' not in second[1]  # only process 0 prints
    assert '[process 1] the sum is 6.0\n' in second[2]


@pytest.mark.parametrize('who', [0, 1])
def test_a_bug_ends_the_other_in_the_midst_of_a_sum(who):
    done = pair('bug', who)
    assert [status for status, *_ in done] == [1, 1]
    assert 'ZeroDivisionError: a bug\n' in done[who][2]
    assert f'error: process {who} failed: ZeroDivisionError: a bug\n' in done[1 - who][2]
    assert 'Traceback' not in done[1 - who][2]


def test_a_mistake_is_one_line_on_both_and_status_2():
    done = pair('mistake', 1)
    assert [status for status, *_ in done] == [2, 2]
    assert 'error: process 1 failed: a mistake\n' in done[0][2]
    assert '[process 1] error: a mistake\n' in done[1][2]


@pytest.mark.parametrize('who', [0, 1])
def test_a_killed_process_ends_the_other_in_the_midst_of_a_sum(who):
    done = pair('kill', who)
    assert done[who][0] == -9
    assert done[1 - who][0] == 1
    assert f'error: process {who} failed: it vanished' in done[1 - who][2]


def test_all_told_to_stop_end_with_that_status():
    done = pair('stop', -1)
    assert [status for status, *_ in done] == [75, 75]
    assert 'error' not in done[0][2] + done[1][2]


def test_processes_of_unlike_commands_name_the_key():
    coordinator = f'--coordinator=localhost:{free_port()}'
    done = ends(
        [
            start('-m', 'ltjax.main', '--config=configs/lmd.py', coordinator, '--num_processes=2',
                  f'--process_id={process_id}', f'--config.seed={process_id}', '--workdir=absent')
            for process_id in range(2)
        ]
    )  # fmt: skip
    for process_id, (status, stdout, stderr) in enumerate(done):
        assert status == 2
        assert stdout == ''
        (line,) = stderr.splitlines()
        assert line.startswith(
            f'{"[process 1] " * process_id}error: config.seed is 0 on process 0 and 1'
        )
