"""Processes that meet, differ, fail, vanish and leave: each ends with one clear line, and soon."""

import contextlib
import json
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

import tiny
from cluster.ports import connected, free_port

FACTS = {'config.seed': '0', 'the version of jax': '0.10.2'}


class Processes:
    """Starts processes of one meeting; all are gone at the end of the test."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.port = free_port()
        self.started: dict[int, subprocess.Popen] = {}

    def start(self, process_id, *actions, facts=FACTS, timeout=20, slot=None):
        words = [
            self.port,
            self.count,
            process_id,
            json.dumps(facts),
            f'timeout={timeout}',
            *actions,
        ]
        script = pathlib.Path(__file__).with_name('process.py')
        process = self.started[process_id if slot is None else slot] = subprocess.Popen(
            [sys.executable, str(script), *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={'PYTHONPATH': str(tiny.ROOT)},
        )
        return process

    def wait_until_joined(self):
        for process in self.started.values():
            assert process.stdout.readline() == 'joined\n'

    def end(self):
        """Returns exit status and stderr of each, which must come by itself."""
        return {
            slot: (process.wait(timeout=30), process.communicate()[1])
            for slot, process in self.started.items()
        }


@pytest.fixture
def processes():
    made = []

    def make(count):
        made.append(Processes(count))
        return made[-1]

    yield make
    for process in [process for group in made for process in group.started.values()]:
        process.kill()
        process.communicate()


def test_equal_processes_meet_and_leave_together(processes):
    three = processes(3)
    three.start(2, 'leave=0')
    three.start(0, 'sleep=1', 'leave=0')
    three.start(1, 'leave=0')
    assert three.end() == dict.fromkeys(range(3), (0, ''))


def test_a_missing_process_is_named_on_all_that_came_before_they_lose_patience(processes):
    four = processes(4)
    four.start(0, timeout=60)
    connected(four.port).close()
    four.start(2, timeout=2)
    for status, stderr in four.end().values():
        assert status == 2
        (line,) = stderr.splitlines()
        assert line.startswith('error: processes 1, 3 of 4 did not come within')


def test_an_unreachable_coordinator_is_named(processes):
    two = processes(2)
    two.start(1, timeout=1)
    status, stderr = two.end()[1]
    assert status == 2
    (line,) = stderr.splitlines()
    assert f'process 0 cannot be reached at localhost:{two.port} within 1 s' in line


@pytest.mark.parametrize(
    ('theirs', 'expected'),
    [
        (FACTS | {'config.seed': '1'}, 'config.seed is 0 on process 0 and 1 on process 2'),
        (
            FACTS | {'the version of jax': '0.11'},
            'the version of jax is 0.10.2 on process 0 and 0.11',
        ),
        (FACTS | {'config.new': 'true'}, 'config.new is absent on process 0 and true on process 2'),
    ],
    ids=['config', 'version', 'key'],
)
def test_a_disagreement_is_told_to_all(processes, theirs, expected):
    three = processes(3)
    three.start(2, facts=theirs)
    three.start(0)
    three.start(1)
    for status, stderr in three.end().values():
        assert status == 2
        (line,) = stderr.splitlines()
        assert line.startswith('error: ' + expected)


def test_two_processes_of_one_number(processes):
    three = processes(3)
    three.start(0)
    one, again = three.start(1), three.start(1, slot='again')
    while one.poll() is None and again.poll() is None:
        time.sleep(0.05)
    three.start(2)
    for status, stderr in three.end().values():
        assert status == 2
        assert 'two processes say that they are process 1' in stderr


def test_a_port_in_use(processes):
    two = processes(2)
    with socket.create_server(('', two.port)):
        two.start(0)
        status, stderr = two.end()[0]
    assert status == 2
    assert f'process 0 cannot listen on port {two.port} (Address already in use)' in stderr


@pytest.mark.parametrize('failing', [0, 1])
def test_a_failure_ends_all_with_its_line_and_status(processes, failing):
    three = processes(3)
    for who in range(3):
        three.start(who, 'fail=7' if who == failing else 'hang')
    for who, (status, stderr) in three.end().items():
        assert status == 7
        assert stderr == (
            '' if who == failing else f'error: process {failing} failed: no more memory\n'
        )


@pytest.mark.parametrize('killed', [0, 1])
def test_a_killed_process_ends_all(processes, killed):
    three = processes(3)
    for who in range(3):
        three.start(who, 'hang')
    three.wait_until_joined()
    three.started[killed].send_signal(signal.SIGKILL)
    for who, (status, stderr) in three.end().items():
        if who != killed:
            assert status == 1
            assert stderr.startswith(f'error: process {killed} failed: it vanished')


@pytest.mark.parametrize('stopped', [0, 1])
def test_a_process_told_to_stop_stops_all_with_its_status(processes, stopped):
    three = processes(3)
    for who in range(3):
        three.start(who, 'leave=75' if who == stopped else 'hang')
    for who, (status, stderr) in three.end().items():
        assert status == 75
        if who != stopped:
            assert stderr == f'process {stopped} was told to stop (status 75)\n'


def test_all_told_to_stop_end_by_themselves(processes):
    three = processes(3)
    for who in range(3):
        three.start(who, f'sleep={who / 10}', 'leave=75')
    for status, stderr in three.end().values():
        assert status == 75
        assert 'error' not in stderr


def test_a_failure_after_others_left_ends_them_too(processes):
    two = processes(2)
    two.start(0, 'sleep=1', 'fail=2')
    two.start(1, 'leave=0')
    assert two.end() == {0: (2, ''), 1: (2, 'error: process 0 failed: no more memory\n')}


def test_strangers_do_not_disturb_the_meeting(processes):
    two = processes(2)
    two.start(0, 'leave=0')
    for said in (b'GET / HTTP/1.1\r\n\r\n', b'{"hello": 1}\n', b'x' * (1 << 19), b''):
        with connected(two.port) as stranger, contextlib.suppress(ConnectionError):
            stranger.sendall(said)
    two.start(1, 'leave=0')
    assert two.end() == {0: (0, ''), 1: (0, '')}
