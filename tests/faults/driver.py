"""Starts tiny runs in processes of their own, ends and damages them at random, and compares with undisturbed ones."""

import dataclasses
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np

import tiny
from faults import changes
from faults.child import ACTIONS, LONGER, POINTS
from ltjax.errors import TRY_AGAIN

# Seconds: a process that meets no fault takes a few. One that has no memory left may hang, as its watchdog would say,
# and is then killed.
PATIENCE = 300
STARVED_PATIENCE = 15

# How often a point is passed until its fault strikes, at most: seldom enough that most faults strike.
_UP_TO = {'step': 12, 'save': 6, 'sums': 6, 'row': 3, 'rename': 8}

# Most of what ends runs is a kill, and one inside a write is the hardest.
_OFTEN = ('kill', 'kill', 'kill_soon', 'kill_soon', 'kill_later', 'term')

# The damage done to a file of bytes.
DAMAGES = ('flip', 'cut', 'remove', 'append')


class Lost(AssertionError):
    """Work was lost, or something else came out."""


@dataclasses.dataclass
class Driver:
    """Runs of one method, disturbed one fault after another and always gone on with.

    Args:
      method: LMD or ICCL.
      folder: gets data and runs.
      seed: of the faults.
      layout: of the data: 'npz', 'folder' or 'csv'.
      cache: of compiled functions; default: in `folder`.
    """

    method: str
    folder: pathlib.Path
    seed: int
    layout: str = 'npz'
    cache: pathlib.Path | None = None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._points = self._dealt(sorted(POINTS))
        self._actions = self._dealt(sorted(ACTIONS), _OFTEN)
        self._hows = self._dealt(DAMAGES)
        self._server: subprocess.Popen[str] | None = None
        self.kills: dict[str, int] = {}
        self.damages: dict[str, int] = {}
        self.changed: dict[str, int] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = changes.write(self.folder / 'data', self.layout)
        self.workdir = self.folder / 'disturbed'
        self.run(self.folder / 'undisturbed')
        self.close()  # the others have another seed of Python's hashes

    def _dealt(self, *packs: Sequence[str]) -> Iterator[str]:
        """Gives the cards of one shuffled pack after another, so that soon each was there."""
        while True:
            for pack in packs:
                yield from self.random.sample(pack, len(pack))

    def close(self) -> None:
        """Ends the process that makes the runs' processes."""
        if self._server is not None:
            self._server.kill()
            self._server.communicate()
            self._server = None

    def run(self, workdir: pathlib.Path, *fault: str) -> int:
        """Runs until its end or that of its fault; returns the exit status.

        Raises:
          Lost: it ended in a traceback, or not at all.
        """
        status, said = self._start(workdir, *fault)
        if status == 2 and 'disk' not in fault and 'memory' not in fault:
            raise Lost(f'{self.method} {fault}: {said}')
        return status

    def change(self) -> str:
        """Changes the data of the run; the same command must refuse and name that. Returns how, '' if nothing is begun.

        Raises:
          Lost: it goes on, or says something else, or the run is no longer what it was.
        """
        if not any(self.workdir.glob('checkpoints/*/sha256.json')):
            return ''
        before = changes.content(self.data)
        how, name = changes.change(self.data, self.random)
        status, said = self._start(self.workdir)
        if status != 2 or name not in said or 'data' not in said:
            raise Lost(f'{self.method}, {self.layout}, {how}: status {status}; {said}')
        changes.restore(self.data, before)
        self.changed[f'{how} ({self.layout})'] = self.changed.get(f'{how} ({self.layout})', 0) + 1
        return how

    def _start(self, workdir: pathlib.Path, *fault: str) -> tuple[int, str]:
        starved = 'memory' in fault  # what breaks first then, and how it says so, nobody knows
        words = [self.method, str(self.data), str(workdir), str(self.cache or self.folder / 'xla')]
        server = self._served()
        print(json.dumps([*words, *fault]), file=server.stdin, flush=True)
        child, late = int(server.stdout.readline()), threading.Event()

        def end() -> None:
            late.set()
            os.kill(child, signal.SIGKILL)

        clock = threading.Timer(STARVED_PATIENCE if starved else PATIENCE, end)
        clock.start()
        status, said = json.loads(server.stdout.readline())
        clock.cancel()
        if late.is_set() and not starved:
            raise Lost(f'{self.method} {fault}: it hangs')
        if status not in (0, 2, TRY_AGAIN, -9) and not starved:
            raise Lost(f'{self.method} {fault}: status {status}\n{said}')
        return status, said

    def _served(self) -> subprocess.Popen[str]:
        """Returns the process that makes those of the runs."""
        if self._server is None:
            ours = {
                'PYTHONPATH': os.pathsep.join((str(tiny.ROOT), str(tiny.ROOT / 'tests'))),
                'JAX_PLATFORMS': 'cpu',
                'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
                'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
            }
            self._server = subprocess.Popen(
                [sys.executable, '-m', 'faults.child'],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | ours,
            )
        return self._server

    def kill(self) -> str:
        """Goes on with the run until a random fault; returns it. A run that ends before is compared, and begun anew.

        Among as many faults as there are actions, each has struck, and at each point.
        """
        point, action = next(self._points), next(self._actions)
        number = self.random.randint(1, _UP_TO[point])
        fault = f'{action} at {point} {number}'
        if self.run(self.workdir, point, str(number), action):
            self.kills[fault] = self.kills.get(fault, 0) + 1
        else:  # it ended before
            self._points = itertools.chain([point], self._points)
            self._actions = itertools.chain([action], self._actions)
        if (self.workdir / 'results.json').exists():
            self.compare()
        return fault

    def disturb(self, times: int) -> None:
        """Kills and damages until both were done that often, then compares.

        Raises:
          Lost: see `compare`.
        """
        while min(sum(self.kills.values()), sum(self.damages.values())) < times:
            self.kill()
            self.damage()
        self.compare()

    def damage(self) -> str:
        """Damages a random file of the run; returns how, '' if there is none yet."""
        files = [path for path in self.workdir.glob('checkpoints/*/**/*') if path.is_file()]
        files += [self.workdir / 'metrics.jsonl', self.workdir / 'config.json']
        files = sorted(path for path in files if path.exists())
        if not files or (self.workdir / 'results.json').exists():
            return ''
        path, how = self.random.choice(files), next(self._hows)
        content = bytearray(path.read_bytes())
        if how == 'remove':
            path.unlink()
        elif how == 'append':
            path.write_bytes(content + b'\x00{"stage"')
        elif how == 'cut' or not content:
            path.write_bytes(content[: len(content) // 2])
        else:
            content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
            path.write_bytes(content)
        done = f'{how} {path.relative_to(self.workdir)}'
        self.damages[done] = self.damages.get(done, 0) + 1
        return done

    def compare(self) -> None:
        """Ends the run undisturbed, and compares what it leaves with what a run leaves that nothing ever befell.

        Raises:
          Lost: anything but times differs.
        """
        whole = self.folder / 'undisturbed'
        if self.run(self.workdir):
            raise Lost(f'{self.method}: the run cannot be ended')
        ours, theirs = (
            json.loads((run / 'results.json').read_text('utf-8')) | {'seconds': 0}
            for run in (self.workdir, whole)
        )
        if ours != theirs:
            raise Lost(f'{self.method}: results.json differs')
        rows = [
            tiny.timeless(
                [
                    json.loads(line)
                    for line in (run / 'metrics.jsonl').read_text('utf-8').splitlines()
                ]
            )
            for run in (self.workdir, whole)
        ]
        if rows[0] != rows[1]:
            raise Lost(f'{self.method}: metrics.jsonl differs')
        with (
            np.load(self.workdir / 'predictions.npz') as a,
            np.load(whole / 'predictions.npz') as b,
        ):
            for name in b.files:
                if a[name].tobytes() != b[name].tobytes():
                    raise Lost(f'{self.method}: {name} of predictions.npz differ')
        shutil.rmtree(self.workdir)


def soak(folder: pathlib.Path, *, minutes: float, seed: int) -> dict[str, dict[str, int]]:
    """Disturbs LMD and ICCL in turn for so long; returns how often what was done.

    Raises:
      Lost: at the first loss; `folder` then holds the run.
    """
    end = time.monotonic() + 60 * minutes
    drivers = [
        Driver(method, folder / f'{method}-{layout}', seed, layout)
        for method, layout in zip(LONGER, changes.LAYOUTS, strict=False)
    ]
    drivers.append(
        Driver('iccl', folder / f'iccl-{changes.LAYOUTS[-1]}', seed, changes.LAYOUTS[-1])
    )
    while time.monotonic() < end:
        for driver in drivers:
            print(
                f'{driver.method}, {driver.layout}: {driver.kill()}; data: {driver.change()}; {driver.damage()}',
                flush=True,
            )
    for driver in drivers:
        driver.compare()
        driver.close()
    return {d.folder.name: d.kills | d.damages | d.changed for d in drivers}
