"""Tells when a training stands still: what it was doing, and where each of its threads is."""

import faulthandler
import sys
import threading
import time
from typing import Self, TextIO


class Watchdog:
    """Speaks when there was no sign of life for some minutes; a training gives one before and after every step.

    Args:
      minutes: how long to wait; 0: never speaks.
      stream: a file of the system's, where it speaks.
    """

    def __init__(self, minutes: float, *, stream: TextIO | None = None) -> None:
        self._seconds = 60 * minutes
        self._stream = sys.stderr if stream is None else stream
        self._what, self._compiles, self._since = 'start', False, time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name='watchdog', daemon=True)

    def __enter__(self) -> Self:
        if self._seconds > 0:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._seconds > 0:
            self._thread.join()

    def alive(self, what: str, *, compiles: bool = False) -> None:
        """Gives a sign of life.

        Args:
          what: begins now.
          compiles: it is the first of its kind, which XLA compiles: slow, but no hang.
        """
        self._what, self._compiles, self._since = what, compiles, time.monotonic()

    def _watch(self) -> None:
        told = None
        while not self._done.wait(min(self._seconds / 4, 5.0)):
            since, waited = self._since, time.monotonic() - self._since
            if waited < self._seconds or since == told:
                continue
            told = since
            if self._compiles:
                text = f'{self._what} has taken {waited / 60:.1f} min, and may still be compiled.'
            else:
                text = f'{self._what} has taken {waited / 60:.1f} min: it hangs. Where its threads are:'
            self._stream.write(f'\nwatchdog: {text}\n')
            self._stream.flush()
            if not self._compiles:
                faulthandler.dump_traceback(_system_file(self._stream))


def _system_file(stream: TextIO) -> int:
    """Returns the number of a stream, or that of stderr: a notebook's streams may have none."""
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return 2
