"""Work on many images with all processors, in order, and how far it has come.

Threads, since Pillow, OpenCV, numpy and hashlib leave the interpreter to others while they decode, resize and digest:
on two cores they did as much as processes, and need neither to be started nor to be sent what was made.
"""

import collections
import concurrent.futures
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Item = TypeVar('Item')
Made = TypeVar('Made')

# Tasks of a thread that wait to be done or to be taken: what they made is all that is in memory.
_AHEAD = 4

# Seconds between lines, and before the first.
EVERY = 5.0


def processors() -> int:
    """Returns how many processors this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(
    function: Callable[[Item], Made], items: Iterable[Item], *, threads: int = 0
) -> Generator[Made, None, None]:
    """Yields what `function` makes of each item, in their order.

    Close it (`contextlib.closing`) where it may be left before its end: it then waits for what is under way alone.

    Args:
      function: is called in threads.
      items: are taken as they are needed.
      threads: how many; 0: as many as there are processors.

    Raises:
      Exception: what `function` raises, at the place of its item.
    """
    threads = threads or processors()
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    waiting: collections.deque[concurrent.futures.Future[Made]] = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > _AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def to_log(line: str) -> None:
    """Prints a line where a run says what it does, once if several processes share it."""
    from ltjax import processes  # which imports jax: an audit does without

    if processes.is_first():
        print(line, file=sys.stderr, flush=True)


class Progress:
    """Says every few seconds how far work has come and how long it will take; of short work nothing.

    Args:
      what: is done, as 'decoding photos/'.
      total: how many images it is done to.
      say: gets the lines.
    """

    def __init__(self, what: str, total: int, say: Callable[[str], None] = to_log) -> None:
        self._what, self._total, self._say = what, total, say
        self._done = self._made = 0
        self._started = self._said = time.monotonic()

    def advance(self, number: int = 1, *, ready: bool = False) -> None:
        """Notes further images; `ready`: they were there already, and say nothing of how long others take."""
        self._done += number
        self._made += 0 if ready else number
        now = time.monotonic()
        if now - self._said < EVERY or not self._made:
            return
        self._said, rate = now, self._made / (now - self._started)
        left = duration((self._total - self._done) / rate)
        self._say(
            f'{self._what}: {self._done:,} of {self._total:,} images, {rate:.3g} a second, {left} left'
        )


def duration(seconds: float) -> str:
    """Returns seconds as people say them.

    >>> [duration(seconds) for seconds in (0, 59.6, 600, 9000)]
    ['0 s', '60 s', '10 min', '2.5 h']
    """
    if seconds < 100:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 6000 else f'{seconds / 3600:.1f} h'
