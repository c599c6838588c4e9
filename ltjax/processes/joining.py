"""What the processes of a run do together before and after it."""

import contextlib
import json
import os
import pathlib
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from absl import logging
from jax._src.distributed import global_state  # its store has no public name, from jax 0.10 to 0.12
from jax.experimental import multihost_utils

from ltjax import provenance
from ltjax.errors import Preempted, UserError
from ltjax.processes.detection import Member

# Under this name a process that fails leaves its number, status and error in jax's store. All look there every 0.5 s.
# It lingers for 2 s, so that no collective breaks before; process 0, which keeps the store, for twice as long.
_FAILED, _EVERY, _LINGER = 'ltjax/failed', 0.5, 2.0
_ENDING = threading.Lock()  # of the thread that ends this process; the other keeps quiet


@contextlib.contextmanager
def joined(
    member: Member | None, config: Any, folder: pathlib.Path, *, timeout: float
) -> Iterator[None]:
    """Runs its body as one of several processes; with None, as ever.

    All must be there after `timeout` seconds, and be about to run `config` in `folder`. Then their devices are one. If
    one fails, all end with its error and status; if one is lost, jax aborts the others; who is done waits for the
    others. Processes other than 0 print errors only, each line with their number.
    """
    if member is None:
        yield
        return
    if member.process_id:
        _hush(member.process_id)
    _initialize(member, timeout)
    client, ended = global_state.client, threading.Event()
    watch = threading.Thread(target=_watch, args=[client, ended], daemon=True)
    try:
        _compare(config, folder, member)
        watch.start()
        yield
    except BaseException as error:
        if not isinstance(error, Preempted):
            _fail(error, client)
        raise
    finally:
        jax.distributed.shutdown()
        ended.set()
        watch.join()


def _initialize(member: Member, timeout: float) -> None:
    if member.coordinator and member.process_id == 0:
        try:  # jax 0.10.2 answers a port that is taken with a segmentation fault
            socket.create_server(('', int(member.coordinator.rpartition(':')[2]))).close()
        except (OSError, OverflowError) as error:
            raise UserError(f'process 0 cannot listen at {member.coordinator}: {error}') from None
    # jax would abort the process, with a page of its own.
    timer = threading.Timer(timeout, _give_up, [member, timeout])
    timer.daemon = True
    timer.start()
    jax.distributed.initialize(
        member.coordinator,
        member.num_processes,
        member.process_id,
        local_device_ids=member.local_device_ids,
        cluster_detection_method=None if member.by_jax else 'deactivate',
        initialization_timeout=int(timeout) + 31,
        heartbeat_timeout_seconds=20,  # then it aborts the others
    )
    timer.cancel()
    if member.by_jax and jax.process_index() > 0:
        _hush(jax.process_index())


def _give_up(member: Member, timeout: float) -> None:
    line = f'not all processes came within {timeout:g} s: see what each says.'
    if member.coordinator and member.process_id:
        host, _, port = member.coordinator.rpartition(':')
        try:
            socket.create_connection((host.strip('[]'), int(port)), timeout=3).close()
        except OSError as error:
            line = (
                f'process 0 cannot be reached at {member.coordinator} within {timeout:g} s: {error}'
            )
    _end(2, line)


def _compare(config: Any, folder: pathlib.Path, member: Member) -> None:
    ours = {
        'config': json.loads(config.to_json()),
        '--workdir': str(folder),
        'whether the run in the workdir is finished': (folder / 'results.json').exists(),
        'the source of ltjax (sha256)': provenance.source_digest(),
        'the version of': provenance.versions(),
        'the number of processes': member.num_processes,
    }
    told = json.dumps(ours).encode()
    longest = int(multihost_utils.process_allgather(np.array(len(told))).max())
    gathered = multihost_utils.process_allgather(np.frombuffer(told.ljust(longest), np.uint8))
    first, *others = (json.loads(bytes(text)) for text in gathered)
    for process, theirs in enumerate(others, start=1):
        for name, a, b in provenance.differences(first, theirs):
            raise UserError(
                f'{name} is {str(a)[:200]} on process 0 and {str(b)[:200]} on process {process}: start the same '
                'command, with the same code and packages, everywhere.'
            )


def _fail(error: BaseException, client: Any) -> NoReturn:
    """Prints an error as the command would, tells the others, and ends this process."""
    _ENDING.acquire()
    line, status = ' '.join(f'{type(error).__name__}: {error}'.split())[:1000], 1
    if isinstance(error, UserError):
        line, status = str(error), 2
    else:
        traceback.print_exception(error)
    if isinstance(error, jax.errors.JaxRuntimeError):
        line += ' (perhaps because another process is gone: see what each says)'
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # another was first
        client.key_value_set(_FAILED, json.dumps([global_state.process_id, status, line]))
    _end(status, line)


def _watch(client: Any, ended: threading.Event) -> None:
    """Ends this process when another has failed, whatever the main thread waits for."""
    while not ended.wait(_EVERY):
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # there is nothing
            process, status, line = json.loads(client.key_value_try_get(_FAILED))
            _ENDING.acquire()
            _end(status, f'process {process} failed: {line}')


def _end(status: int, line: str) -> NoReturn:
    """Ends this process without the interpreter's own end, in which jax would wait for the others."""
    print(f'error: {line}', file=sys.stderr)
    sys.stdout.flush()
    time.sleep(_LINGER if global_state.process_id else 2 * _LINGER)
    os._exit(status)


def _hush(process_id: int) -> None:
    """Leaves this process its errors, each line with its number, until it ends."""
    write, prefix = sys.stderr.write, f'[process {process_id}] '
    sys.stderr.write = lambda text: write(re.sub('(?m)^(?=.)', prefix, text))  # type: ignore[method-assign]
    sys.stdout = pathlib.Path(os.devnull).open('w')  # noqa: SIM115
    logging.set_verbosity(logging.ERROR)
