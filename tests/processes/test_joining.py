"""Two processes: they meet, compute together, and end together, each with a line that says why."""

import pathlib
import re
import socket
import time

import pytest
from ml_collections import ConfigDict

from ltjax.errors import UserError
from ltjax.processes.detection import Member
from ltjax.processes.joining import joined
from processes.start import ends, free_port, start

pytestmark = [pytest.mark.processes, pytest.mark.slow]

# What its C++ says on a slow machine is no line of ours.
# Two threads of Gloo may write into each other's line.
JAX_SAYS = re.compile(
    r'\[Gloo\]| is connected to |[IWEF]\d{4} |WARNING: All log messages before absl::InitializeLog'
)


def pair(action, who, counts=(2, 2)):
    script, port = pathlib.Path(__file__).with_name('member.py'), free_port()
    return ends(*(start(script, port, i, action, who, counts[i]) for i in range(2)))


def test_they_sum_and_end_together():
    first, second = pair('finish', -1)  # process 0 later
    assert first[0] == second[0] == 0
    assert 'the sum is 3.0' in first[1]
    assert 'the sum is' not in second[1]  # only process 0 prints
    assert '[process 1] the sum is 3.0\n' in second[2]


@pytest.mark.parametrize('who', [0, 1])
@pytest.mark.parametrize(
    ('action', 'status', 'line'), [('mistake', 2, 'a mistake'), ('bug', 1, 'ZeroDivisionError: a bug')]
)  # fmt: skip
def test_one_that_fails_ends_both_with_its_status_in_the_midst_of_a_sum(action, status, line, who):
    done = pair(action, who)
    assert [end[0] for end in done] == [status, status]
    prefix = ['', '[process 1] ']
    assert f'{prefix[who]}error: {line}\n' in done[who][2]
    assert ('Traceback' in done[who][2]) == (action == 'bug')
    assert f'{prefix[1 - who]}error: process {who} failed: {line}\n' in done[1 - who][2]
    assert 'Traceback' not in done[1 - who][2]


@pytest.mark.parametrize(
    ('who', 'line'),
    [(0, 'Failed to send RPC to coordination service. Either the leader task was preempted/died'),
     (1, 'The following tasks are unhealthy (stopped sending heartbeats):\n1\n')],
)  # fmt: skip
def test_one_that_is_killed_ends_the_other(who, line):
    began = time.monotonic()
    done = pair('kill', who)
    assert done[who][0] == -9
    assert done[1 - who][0] in (-6, 1)  # jax aborts it, unless the sum fails before
    assert line in done[1 - who][2] or 'perhaps because another process is gone' in done[1 - who][2]
    assert time.monotonic() - began < 60


def test_all_told_to_stop_end_with_that_status():
    done = pair('stop', -1)
    assert [end[0] for end in done] == [75, 75]
    assert 'error' not in done[0][2] + done[1][2]


def test_processes_that_count_differently_are_told():
    for process, (status, _, stderr) in enumerate(pair('finish', -1, counts=(2, 3))):
        assert status == 2
        line = 'error: the number of processes is 2 on process 0 and 3 on process 1: start the'
        assert stderr.count(f'{"[process 1] " * process}{line}') == 1


def test_processes_of_unlike_commands_name_the_key():
    words = ['-m', 'ltjax.main', '--config=configs/lmd.py', '--num_processes=2', '--workdir=absent']
    words += [f'--coordinator=localhost:{free_port()}', '--compilation_cache=']
    done = ends(*(start(*words, f'--config.seed={i}', f'--process_id={i}') for i in range(2)))
    for process, (status, stdout, stderr) in enumerate(done):
        assert status == 2
        lines = [line for line in (stdout + stderr).splitlines() if not JAX_SAYS.match(line)]
        assert len(lines) == 1, lines
        (line,) = lines
        prefix = '[process 1] ' * process
        assert line.startswith(f'{prefix}error: config.seed is 0 on process 0 and 1 on process 1')


@pytest.mark.parametrize(
    ('process', 'line'),
    [(0, 'error: not all processes came within 2 s: see what each says.\n'),
     (1, '[process 1] error: process 0 cannot be reached at localhost:')],
)  # fmt: skip
def test_one_that_waits_in_vain_says_so(process, line):
    script = pathlib.Path(__file__).with_name('member.py')
    ((status, _, stderr),) = ends(start(script, free_port(), process, 'finish', -1, 2, 2))
    assert status == 2
    assert stderr.startswith(line)
    assert stderr.count('\n') == 1


def test_a_port_in_use():
    with socket.create_server(('', 0)) as other:
        member = Member(f'localhost:{other.getsockname()[1]}', 2, 0)
        with pytest.raises(UserError, match='cannot listen at localhost'):
            joined(member, ConfigDict(), pathlib.Path('absent'), timeout=5).__enter__()
