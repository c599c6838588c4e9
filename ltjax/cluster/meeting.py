"""How the processes of a run meet, and make sure that all are about to run the same."""

import os
import selectors
import socket
import time
from collections.abc import Mapping
from typing import Any

from ltjax.cluster.lifeline import GRACE, Lifeline, Wire
from ltjax.errors import UserError


def join(
    host: str,
    port: int,
    *,
    num_processes: int,
    process_id: int,
    facts: Mapping[str, str],
    timeout: float = 45.0,
    grace: float = GRACE,
) -> Lifeline:
    """Meets the other processes, and makes sure that all of them are about to run the same.

    Args:
      host: where process 0 runs.
      port: where it listens, for the time of the meeting.
      num_processes: how many must come.
      process_id: which one this is.
      facts: what must be equal everywhere, by name.
      timeout: seconds until all must be there.
      grace: see `Lifeline.leave`.

    Raises:
      UserError: on every process that can be told, within `timeout`: a process is missing, process 0 cannot be reached,
        two processes have one number, or a fact differs.
    """
    if process_id == 0:
        wires, problem = _Meeting(num_processes, facts, timeout).hold(port)
        for wire in wires.values():
            wire.send({'refused': problem} if problem else {'welcome': True})
        if problem:
            raise UserError(problem)
        return Lifeline(wires, process_id, grace=grace)
    deadline, reason = time.monotonic() + timeout, 'no answer'
    while (left := deadline - time.monotonic()) > 0:
        hello = {'hello': process_id, 'facts': dict(facts), 'patience': left - min(1.0, left / 4)}
        try:
            wire, (answer, *early) = _ask(host, port, hello, deadline)
        except OSError as error:
            reason = error.strerror or str(error) or 'it hung up'
            time.sleep(0.2)
            continue
        match answer:
            case {'welcome': True}:
                return Lifeline({0: wire}, process_id, grace=grace, early=early)
            case {'refused': str(problem)}:
                wire.socket.close()
                raise UserError(problem)
        wire.socket.close()
    raise UserError(
        f'process 0 cannot be reached at {host}:{port} within {timeout:g} s ({reason}): see that it runs there, '
        'and that nothing closes the port.'
    )


def _ask(host: str, port: int, hello: Mapping[str, Any], deadline: float) -> tuple[Wire, list[Any]]:
    """Returns the line to process 0 and what it answers. Raises OSError: not reached, or silent until the deadline."""
    left = deadline - time.monotonic()
    wire = Wire(socket.create_connection((host, port), timeout=max(0.01, min(left, 5.0))))
    try:
        wire.send(hello)
        while (left := deadline - time.monotonic()) > 0:
            if messages := wire.receive(left):
                return wire, messages
        raise TimeoutError('no answer')
    except OSError:
        wire.socket.close()
        raise


class _Meeting:
    """Process 0's side of `join`. All are waited for, even if one differs, so that all are told."""

    def __init__(self, num_processes: int, facts: Mapping[str, str], timeout: float) -> None:
        self._num_processes = num_processes
        self._facts = facts
        self._started = time.monotonic()
        self._deadline = self._started + timeout
        self._problem = ''
        self._there: dict[int, Wire] = {}

    def hold(self, port: int) -> tuple[dict[int, Wire], str]:
        """Returns who came, by number, and what is wrong; '' if nothing is."""
        with _listener(port) as listener, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            while self._missing() and (left := self._deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    try:
                        if key.data is None:
                            wire = Wire(listener.accept()[0])
                            selector.register(wire.socket, selectors.EVENT_READ, wire)
                        else:
                            self._greet(key.data)
                    except OSError:
                        if key.data is not None:
                            selector.unregister(key.fileobj)
                            self._forget(key.data)
            for key in selector.get_map().values():
                if key.data is not None and key.data not in self._there.values():
                    key.data.socket.close()
        return self._there, self._problem or self._absence(port)

    def _greet(self, wire: Wire) -> None:
        for message in wire.receive():
            match message:
                case {'hello': int(who), 'facts': dict(theirs), 'patience': float(left)}:
                    if not 0 < who < self._num_processes or who in self._there:
                        self._problem = f'two processes say that they are process {who}: give each its own number.'
                        wire.send({'refused': self._problem})
                        continue
                    self._deadline = min(self._deadline, time.monotonic() + left)
                    self._there[who] = wire
                    self._problem = self._problem or difference(self._facts, theirs, who)

    def _forget(self, wire: Wire) -> None:
        wire.socket.close()
        self._there = {who: other for who, other in self._there.items() if other is not wire}

    def _missing(self) -> list[int]:
        return [who for who in range(1, self._num_processes) if who not in self._there]

    def _absence(self, port: int) -> str:
        missing = self._missing()
        if not missing:
            return ''
        names = ', '.join(map(str, missing[:8]))
        more = f' and {len(missing) - 8} more' if len(missing) > 8 else ''
        waited = self._deadline - self._started
        return (
            f'process{"es" if len(missing) > 1 else ""} {names}{more} of {self._num_processes} did not come within '
            f'{waited:.0f} s: see what they say, and that they reach port {port} of process 0.'
        )


def difference(ours: Mapping[str, str], theirs: Mapping[str, str], who: int) -> str:
    """Returns a line that names the first fact in which process `who` differs from process 0; '' if none does."""
    for name in sorted(ours.keys() | theirs.keys()):
        a, b = str(ours.get(name, 'absent')), str(theirs.get(name, 'absent'))
        if a != b:
            return (
                f'{name} is {a[:200]} on process 0 and {b[:200]} on process {who}: start the same command, '
                'with the same code and packages, everywhere.'
            )
    return ''


def _listener(port: int) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            family, dual = socket.AF_INET6, True
        else:
            family, dual = socket.AF_INET, False
        listener = socket.create_server(('', port), family=family, dualstack_ipv6=dual)
    except OSError as error:
        raise UserError(
            f'process 0 cannot listen on port {port} ({os.strerror(error.errno or 0)}): '
            'give another --coordinator=HOST:PORT.'
        ) from None
    listener.setblocking(False)
    return listener
