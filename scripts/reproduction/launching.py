"""How trainings are started: here, one after the other; several at a time; by a scheduler.

One that fails is told, and the others go on. However they are started, they end with the same bits.
"""

import concurrent.futures
import os
import pathlib
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ltjax.errors import UserError
from reproduction.runs import Options, Run, command, train


class Progress:
    """Tells how far the runs are, and why some failed.

    Attributes:
      failed: by workdir, why in a line.
    """

    def __init__(self, total: int, at_once: int) -> None:
        self.failed: dict[pathlib.Path, str] = {}
        self._total, self._at_once, self._ended = total, at_once, 0
        self._seconds: list[float] = []

    def tell(self, run: Run, why: str, seconds: float) -> None:
        """Prints a line about a run that ended after some seconds; `why` it failed, or ''."""
        self._ended += 1
        self._seconds.append(seconds)
        said = f'failed: {why}' if why else 'done'
        if why:
            self.failed[run.workdir] = why
        left = (self._total - self._ended) * statistics.mean(self._seconds) / self._at_once
        after = f', about {left / 60:.0f} min left' if self._ended < self._total else ''
        print(
            f'[{self._ended}/{self._total}] {run.row}, seed {run.seed} on {run.benchmark}: {said} '
            f'({seconds:.0f} s{after})',
            flush=True,
        )


def here(open_waves: Sequence[Sequence[Run]], progress: Progress) -> None:
    """Trains the runs in this process, one after the other."""
    for wave in open_waves:
        for run in wave:
            begun = time.monotonic()
            progress.tell(run, _blocked(run) or train(run), time.monotonic() - begun)


def at_once(
    open_waves: Sequence[Sequence[Run]], options: Options, jobs: int, progress: Progress
) -> None:
    """Trains the runs in processes of their own, several at a time; GPUs are shared out between them."""
    gpus = _gpus()

    def one(run: Run, place: int) -> str:
        environment = dict(os.environ)
        if gpus:
            environment['CUDA_VISIBLE_DEVICES'] = gpus[place % len(gpus)]
        return _called(command(run, options), run.workdir, environment)

    free = list(range(jobs))
    for wave in open_waves:
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:

            def work(run: Run) -> None:
                begun, place = time.monotonic(), free.pop()
                try:
                    why = _blocked(run) or one(run, place)
                finally:
                    free.append(place)
                progress.tell(run, why, time.monotonic() - begun)

            for ended in [pool.submit(work, run) for run in wave]:
                ended.result()


def submitted(
    open_waves: Sequence[Sequence[Run]],
    options: Options,
    cluster: str,
    parameters: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Gives the runs to a scheduler by submitit, and waits for them.

    Args:
      open_waves: the runs.
      options: of all runs.
      cluster: 'slurm', or 'local': processes on this machine.
      parameters: of submitit, such as timeout_min=600 or slurm_partition='gpu'.
      progress: is told what ended.

    Raises:
      UserError: submitit is not installed, or finds no such scheduler.
    """
    try:
        import submitit
    except ImportError:
        raise UserError("--launcher needs submitit: pip install 'ltjax[jobs]'.") from None
    try:
        executor = submitit.AutoExecutor(folder=options.out / 'jobs', cluster=cluster)
        executor.update_parameters(**{'timeout_min': 24 * 60, 'name': 'ltjax', **parameters})
    except (RuntimeError, ValueError, NameError) as error:  # no such scheduler, or parameter
        raise UserError(f'--launcher={cluster}: {" ".join(str(error).split())[:200]}') from None
    for wave in open_waves:
        begun = time.monotonic()
        jobs = [
            (run, executor.submit(submitit.helpers.CommandFunction(command(run, options))))
            for run in wave
            if not _blocked(run)
        ]
        for run in wave:
            if why := _blocked(run):
                progress.tell(run, why, 0.0)
        for run, job in jobs:
            job.wait()
            why = '' if run.finished else _said(f'{job.stdout()}\n{job.stderr()}', job.paths.stderr)
            progress.tell(run, why, time.monotonic() - begun)


def _blocked(run: Run) -> str:
    """Says that the run whose first stage this one takes is not there; '' if it is, or none is needed."""
    if run.first is None or (run.first / 'results.json').exists():
        return ''
    return f'{run.first.name}, whose first stage it takes, did not finish'


def _called(
    words: Sequence[str], workdir: pathlib.Path, environment: Mapping[str, str] | None
) -> str:
    """Runs a command with its output in WORKDIR.log; returns '' or why it failed, in a line."""
    log = workdir.with_name(f'{workdir.name}.log')
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('w', encoding='utf-8') as file:
        ended = subprocess.run(
            words, check=False, stdout=file, stderr=subprocess.STDOUT, env=environment
        )
    if ended.returncode == 0:
        return ''
    return _said(log.read_text('utf-8', errors='replace'), log)


def _said(output: str, log: pathlib.Path) -> str:
    """Returns what a process said of its failure: its line that begins with 'error:', or its last."""
    lines = output.strip().splitlines() or ['no output']
    said = next((line for line in reversed(lines) if line.startswith('error: ')), lines[-1])
    return f'{said.removeprefix("error: ")} (see {log})'


def _gpus() -> list[str]:
    """Returns the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; () without."""
    given = os.environ.get('CUDA_VISIBLE_DEVICES')
    if given is not None:
        return [each for each in given.split(',') if each]
    try:
        listed = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, _ in enumerate(listed.stdout.strip().splitlines())]
