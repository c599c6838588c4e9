"""A tiny run that meets a fault: `python -m faults.child METHOD DATA WORKDIR CACHE [POINT NUMBER ACTION]`.

DATA is an npz, a folder or a CSV.

The fault strikes when POINT is passed for the NUMBERth time. As in ltjax.main, a mistake ends with status 2 and a line
on stderr, a preemption with 75.

`python -m faults.child` alone makes many of them, one after another: see `serve`.
"""

import gc
import json
import os
import pathlib
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import jax

import tiny
from ltjax.engine import checksums
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.logbook import Logbook
from ltjax.engine.safeguards import Safeguards
from ltjax.errors import Preempted, UserError
from ltjax.run import train

# Long enough that some faults meet it in every stage and update; saves inside its rounds. Of each kind of state one: a
# teacher, Gaussians and scratch of a round; centroids; a sampler that is read from the state; rounds without steps.
CHANGES: dict[str, Any] = {'checkpoint.every_steps': 2, 'num_bootstrap': 2}
LONGER = {
    'lmd': {'method.rrl.epochs': 6, 'method.icc.rounds': 7},
    'iccl': {'method.train.epochs': 9, 'method.retrain.epochs': 7},
    'fs': {'method.pretrain.epochs': 4, 'method.train.epochs': 10, 'method.query.after': 2},
    'tau_norm': {'method.train.epochs': 5, 'method.adjust.tau': tuple(i / 20 for i in range(25))},
}

# Where a fault can strike: before that function is called.
POINTS: dict[str, tuple[Any, str]] = {
    'step': (Safeguards, 'stop'),
    'save': (Checkpoints, 'save'),
    'sums': (checksums, 'seal'),
    'row': (Logbook, 'row'),
    'rename': (os, 'replace'),
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill_disk() -> None:
    """No file may grow from now on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def take_memory() -> None:
    """A few megabytes are left."""
    pages = int(pathlib.Path('/proc/self/statm').read_text('ascii').split()[0])
    limit = pages * resource.getpagesize() + (4 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


ACTIONS: dict[str, Callable[[], None]] = {
    'kill': die,
    'kill_soon': threading.Timer(0.03, die).start,
    'kill_later': threading.Timer(0.12, die).start,
    'term': lambda: os.kill(os.getpid(), signal.SIGTERM),
    'int': lambda: os.kill(os.getpid(), signal.SIGINT),
    'disk': fill_disk,
    'memory': take_memory,
}


def strike(point: str, number: int, action: str) -> None:
    """Arranges for the action when the point is passed for that time."""
    owner, name = POINTS[point]
    function, left = getattr(owner, name), number

    def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            ACTIONS[action]()
        return function(*arguments, **options)

    setattr(owner, name, watched)


def main(method: str, data: str, workdir: str, cache: str, *fault: str) -> None:
    jax.config.update('jax_compilation_cache_dir', cache)
    path = pathlib.Path(data)
    config = tiny.config(method, path, CHANGES | LONGER[method])
    config.data.format = 'folder' if path.is_dir() else path.suffix[1:]
    if fault:
        strike(fault[0], int(fault[1]), fault[2])
    try:
        with tiny.plain_figures():
            train.run(config, pathlib.Path(workdir))
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    except Preempted as end:
        print(end, file=sys.stderr)
        raise


def serve() -> None:
    """Forks a run for each line of stdin, the arguments of `main` as JSON, so that it need not import anything.

    For each it writes a line with the run's process id, and when that has ended one with its status and stderr.
    """
    gc.freeze()
    for line in sys.stdin:
        heard, said = os.pipe()
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(0, 1)
            os.dup2(said, 2)  # no file, which could not grow
            os.close(said)
            os.close(heard)
            main(*json.loads(line))
            return
        os.close(said)
        print(child, flush=True)
        with os.fdopen(heard, encoding='utf-8', errors='replace') as stderr:
            text = stderr.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([status, text]), flush=True)


if __name__ == '__main__':
    if sys.argv[1:]:
        main(*sys.argv[1:])
    else:
        serve()
