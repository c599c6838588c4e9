"""Measures what saving and resuming cost: `python scripts/saving.py [METHOD]`, on the embedded set, two minutes.

Prints the share of a round that its checkpoint keeps the training waiting (median, bootstrapped 95 % interval), and the
seconds that a process which goes on inside a round spends on checking and reading its checkpoint.
"""

import argparse
import os
import pathlib
import runpy
import signal
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ltjax import huge_pages
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.rounds import Rounds
from ltjax.engine.safeguards import Safeguards
from ltjax.errors import Preempted
from ltjax.run import train

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / 'configs'
ENDS_AFTER = 500  # steps; inside a round


def patch(owner: type, **methods: Callable[..., Any]) -> None:
    """Replaces methods of a class."""
    for name, method in methods.items():
        setattr(owner, name, method)


def timed(owner: Any, name: str) -> list[float]:
    """Returns the list that from now on gets the seconds of every call of a method."""
    function: Callable[..., Any] = getattr(owner, name)
    seconds: list[float] = []

    def measured(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds.append(time.perf_counter() - started)

    patch(owner, **{name: measured})
    return seconds


def end_in_time() -> None:
    """Makes the process tell itself to end, once."""
    stop, steps = Safeguards.stop, 0

    def counting(self: Safeguards, step: int, count: int = 1) -> bool:
        nonlocal steps
        steps += 1
        if steps == ENDS_AFTER:
            os.kill(os.getpid(), signal.SIGTERM)
        return stop(self, step, count)

    patch(Safeguards, stop=counting)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('method', nargs='?', default='lmd')
    config = runpy.run_path(str(CONFIGS / f'{parser.parse_args().method}.py'))['get_config']()
    config.num_bootstrap = 10
    rounds, saves = timed(Rounds, 'run'), timed(Rounds, '_save')
    reads = [timed(Checkpoints, name) for name in ('__init__', 'progress', 'restore', 'scratch')]
    end_in_time()
    with tempfile.TemporaryDirectory() as folder:
        try:
            train.run(config, pathlib.Path(folder))
        except Preempted as end:
            print(end)
        shares = np.array(saves[: len(rounds) - 1]) / np.array(rounds[:-1])
        for seconds in reads:
            seconds.clear()
        train.run(config, pathlib.Path(folder))
    rng = np.random.default_rng(0)
    medians = [np.median(rng.choice(shares, len(shares))) for _ in range(2000)]
    low, high = np.quantile(medians, (0.025, 0.975))
    print(
        f'saving: {np.median(shares):.2%} [{low:.2%}, {high:.2%}] of a round, {len(shares)} rounds'
    )
    print(f'resuming: {sum(sum(seconds) for seconds in reads):.2f} s')


if __name__ == '__main__':
    huge_pages.restart()
    main()
