"""SIGTERM and SIGINT: a training that is told to end saves first, between two steps, and says so by its exit status."""

import signal
import threading
from types import FrameType
from typing import Any, Self

import jax
from jax.experimental import multihost_utils

from ltjax.errors import Preempted

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Takes the signals while it is entered.

    Until `defer`, when there is nothing to save, and the second time, a signal ends the run at once. Between
    processes jax agrees on the step at which all of them stop; there jax takes SIGTERM, and SIGINT becomes one.

    Python may take a signal while it runs a finaliser or the callback of a weak reference, and what is raised there it
    prints and forgets. So a signal is noted before anything is raised, and who asks next ends the run; if nobody does
    any more, it is left with `Preempted`.
    """

    def __init__(self) -> None:
        self.signal = ''
        self._deferred = False
        self._before: dict[signal.Signals, Any] = {}
        self._stop, self._asked = False, 0

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # Python gives signals to the main thread alone
        taken = SIGNALS[1:] if jax.distributed.is_initialized() else SIGNALS
        self._before = {number: signal.signal(number, self._take) for number in taken}
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        # It came after the last step, or what it raised was lost: whoever trains one run after another must know.
        if self.signal and not (failure or self._stop or jax.distributed.is_initialized()):
            raise Preempted(f'{self.signal}: this run is done; the same command goes on.')

    def _take(self, number: int, frame: FrameType | None) -> None:
        before, self.signal = self.signal, signal.Signals(number).name
        if jax.distributed.is_initialized():
            signal.raise_signal(signal.SIGTERM)
        elif before or not self._deferred:
            self._end()

    def _end(self) -> None:
        raise Preempted(f'{self.signal}: ended at once; the same command goes on.')

    def defer(self, deferred: bool = True) -> None:
        """Says that from now on someone asks `reached` after every step; False: no longer.

        Raises:
          Preempted: a signal came before, and what it raised was lost.
        """
        self._deferred = deferred
        if deferred and self.signal and not jax.distributed.is_initialized():
            self._end()

    def reached(self, step: int) -> bool:
        """Tells whether to stop after this step; several processes must all ask after the same steps."""
        self._asked += 1
        if jax.distributed.is_initialized():
            # jax stops everyone at one number, that after the highest yet: steps that are asked of may be far apart.
            self._stop = self._stop or multihost_utils.reached_preemption_sync_point(self._asked)
        else:
            self._stop = bool(self.signal)
        return self._stop
