"""The line between the processes of one run: one that fails ends all, at once and with its error.

Process 0 listens on a port, the others connect; what they say are lines of JSON. Beside jax's own service, because that
notices a lost process after minutes, and ends the others without saying why.
"""

import contextlib
import json
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

# A line longer than this (a config has some 5 kB) is not ours.
MAX_LINE = 1 << 18

# Seconds that the others have to end by themselves once one was told to stop: time to save.
GRACE = 30.0

# Seconds that process 0 outlives a failure: jax aborts a process whose coordinator is gone, with a page of its own.
_LINGER = 2.0

# Seconds that the symptom of another's failure, say a broken collective, waits for its cause to be told.
_CAUSE = 1.0


class Wire:
    """Sends and receives dicts over a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._buffer = b''
        connection.settimeout(5.0)
        # A host that lost power says nothing: the kernel asks after it.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (('TCP_KEEPIDLE', 10), ('TCP_KEEPINTVL', 5), ('TCP_KEEPCNT', 4)):
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends; that the other end is gone shows when receiving."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b'\n')

    def receive(self, timeout: float = 5.0) -> list[Any]:
        """Returns the messages that have come, waiting for some bytes.

        Raises:
          OSError: the other end is gone, or does not speak as we do.
        """
        self.socket.settimeout(timeout)
        received = self.socket.recv(1 << 16)
        *lines, self._buffer = (self._buffer + received).split(b'\n')
        if not received or max(map(len, [*lines, self._buffer])) > MAX_LINE:
            raise ConnectionError
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            raise ConnectionError from None


class Lifeline:
    """What `meeting.join` returns: to be ended by `leave` or `fail`.

    A thread listens. Should another process fail or vanish, it says so on stderr and ends this one at once, whatever
    the main thread waits for.

    Args:
      wires: to process 0; of process 0, to all others, by number.
      process_id: of this process.
      grace: seconds, see `leave`.
      early: messages that came with the welcome.
    """

    def __init__(
        self,
        wires: Mapping[int, Wire],
        process_id: int,
        *,
        grace: float = GRACE,
        early: Sequence[Any] = (),
    ) -> None:
        self._wires = wires
        self._early = early
        self._process_id = process_id
        self._grace = grace
        self._changed = threading.Condition()
        self._left: set[int] = set()
        self._stopping = 0
        self._done = False
        self._thread = threading.Thread(target=self._listen, name='lifeline', daemon=True)
        self._thread.start()

    def leave(self, status: int = 0) -> None:
        """Says goodbye, and waits until everyone has.

        With a status other than 0 this process was told to stop: the others may stop by themselves for `grace` seconds,
        and are then ended, with that status, and so is this one.
        """
        goodbye = {'leaving': self._process_id, 'status': status}
        with self._changed:
            if self._process_id > 0:
                self._tell(goodbye)
            self._handle(goodbye)
            self._changed.wait_for(lambda: self._done)
        self._thread.join()
        for wire in self._wires.values():
            wire.socket.close()

    def fail(self, line: str, status: int = 1) -> NoReturn:
        """Ends every process with `status`; the others print `line` as this one's. Prints nothing; does not return."""
        why = ' '.join(line.split())[:1000]
        with self._changed:
            self._tell({'failed': self._process_id, 'status': status, 'why': why})
            self._end(status)

    def wait_for_cause(self) -> None:
        """Gives a failure of another process the time to be heard of, which ends this one."""
        time.sleep(_CAUSE)

    def _listen(self) -> None:
        self._handle_all(self._early)
        with selectors.DefaultSelector() as selector:
            for process_id, wire in self._wires.items():
                selector.register(wire.socket, selectors.EVENT_READ, (process_id, wire))
            while not self._done:
                for key, _ in selector.select(0.5):
                    process_id, wire = key.data
                    messages: list[Any] = [{'gone': process_id}]
                    try:
                        messages = wire.receive()
                    except OSError:
                        selector.unregister(wire.socket)
                    self._handle_all(messages)

    def _handle_all(self, messages: Sequence[Any]) -> None:
        with self._changed:
            for message in messages:
                self._handle(message)

    def _handle(self, message: Any) -> None:
        """Acts on a message, of another process or this one's own, which process 0 passes on. Needs the lock."""
        first = self._process_id == 0
        match message:
            case {'failed': int(who), 'status': int(status), 'why': str(why)}:
                if first:
                    self._tell(message, but=who)
                self._end(status, f'process {who} failed: {why}')
            case {'gone': int(who)} if not (self._done or who in self._left):
                if self._stopping:
                    self._end(self._stopping)
                why = 'it vanished (killed, out of memory, or its host is gone)'
                self._handle({'failed': who, 'status': 1, 'why': why})
            case {'leaving': int(who), 'status': int(status)}:
                if status and first:
                    self._tell(message, but=who)
                if status and not self._stopping:
                    self._stop(who, status)
                if first:
                    self._left.add(who)
                if len(self._left) == len(self._wires) + 1:
                    self._tell({'done': True})
                    self._done = True
            case {'done': True}:
                self._done = True
        self._changed.notify_all()

    def _stop(self, who: int, status: int) -> None:
        self._stopping = status
        if who != self._process_id:
            print(f'process {who} was told to stop (status {status})', file=sys.stderr, flush=True)
        timer = threading.Timer(self._grace, self._end, [status])
        timer.daemon = True
        timer.start()

    def _tell(self, message: Mapping[str, Any], but: int | None = None) -> None:
        for process_id, wire in self._wires.items():
            if process_id != but:
                wire.send(message)

    def _end(self, status: int, line: str = '') -> NoReturn:
        """Ends this process without the interpreter's own end, in which jax would wait for the others."""
        with contextlib.suppress(OSError, ValueError):
            if line:
                print(f'error: {line}', file=sys.stderr)
            sys.stderr.flush()
            sys.stdout.flush()
        for wire in self._wires.values():
            with contextlib.suppress(OSError):
                wire.socket.shutdown(socket.SHUT_WR)
        if self._process_id == 0:
            deadline = time.monotonic() + _LINGER
            for wire in self._wires.values():
                with contextlib.suppress(OSError):
                    wire.socket.settimeout(max(deadline - time.monotonic(), 0.01))
                    while wire.socket.recv(1 << 16):
                        pass
        os._exit(status or 1)
