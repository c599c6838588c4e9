"""The trainings of a table: here, one after the other; several at a time; by a scheduler; or as command lines.

A run that has finished is never repeated. A run that shares its first stage with another waits for it: runs are
started in two waves. One that fails is told, and the others go on. However they are started, all runs on CPUs have
one thread (or, by --threads=0, as many as there are cores): another number would change their last bits.
"""

import concurrent.futures
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import comparison
import experiments
from experiments import Experiment

from ltjax import provenance
from ltjax.errors import UserError
from ltjax.run import ownership, resuming, start
from ltjax.run.settings import FREE, Settings
from reproduction.items import Item

ONE_THREAD = '--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1'
_SCRIPT = pathlib.Path(__file__).resolve().parent.parent / 'reproduce.py'


class Options(NamedTuple):
    """What is asked of all runs.

    Attributes:
      seeds: of each row.
      out: the folder of the runs, OUT/BENCHMARK/ROW-SEED.
      paths: the files of the benchmarks' data sets, by benchmark; those that need none are left out.
      changes: to all rows, by dotted name.
      threads: of a run on CPUs; 0: as many as there are cores.
    """

    seeds: tuple[int, ...]
    out: pathlib.Path
    paths: Mapping[str, str] = {}
    changes: Mapping[str, Any] = {}
    threads: int = 1


class Run(NamedTuple):
    """A training.

    Attributes:
      item: whose row it is first.
      benchmark: by name.
      row: the experiment's name.
      seed: of the run.
      config: its config.
      workdir: its folder.
      first: the folder of the run that has the same first stage; None: it trains its own.
    """

    item: str
    benchmark: str
    row: str
    seed: int
    config: Any
    workdir: pathlib.Path
    first: pathlib.Path | None

    @property
    def finished(self) -> bool:
        """Whether its results are there."""
        return (self.workdir / 'results.json').exists()


def plan(item: Item, benchmark: str, options: Options) -> dict[str, list[Run]]:
    """Returns the runs of each row on a benchmark, one a seed.

    A row that has the same config as an earlier one, as the middle of a sweep has, is that one's runs. Rows that
    others take their first stage from are planned too, if they are no rows themselves.

    Raises:
      UserError: a row's config has not the key that the row changes.
    """
    known, _ = experiments.read()
    firsts = {each.first for each in item.rows.values() if each.first}
    # The first of equal configs counts: what others start from, then what a sweep starts from.
    names = [*sorted(firsts), *([item.base] if item.base else []), *item.rows]
    made: dict[str, list[Run]] = {name: [] for name in (*sorted(firsts), *item.rows)}
    for seed in options.seeds:
        seen: dict[str, Run] = {}
        for name in dict.fromkeys(names):
            run = _run(name, item.rows.get(name) or known[name], seed, item, benchmark, options)
            text = json.dumps(json.loads(run.config.to_json()), sort_keys=True)
            same = seen.setdefault(text, run)
            if name in made:
                made[name].append(same)
    for each in (run for rows in made.values() for run in rows):
        if each.first is not None:
            each.config.start_from = str(each.first)
    return made


def _run(
    name: str, experiment: Experiment, seed: int, item: Item, benchmark: str, options: Options
) -> Run:
    config = experiments.make_config(
        experiment,
        benchmark,
        seed,
        path=options.paths.get(benchmark, ''),
        changes={**item.changes, **options.changes},
    )
    folder = options.out / benchmark
    first = None
    if experiment.first and config.data.split.fold != -1:
        first = folder / experiments.slug(experiment.first, seed)
    workdir = folder / experiments.slug(name, seed)
    return Run(item.name, benchmark, name, seed, config, workdir, first)


def outdated(run: Run) -> str:
    """Says in what a finished run is not what would be trained now; '' if it is.

    Raises:
      UserError: its config.json is damaged.
    """
    theirs = ownership.read_config(run.workdir)
    ours = json.loads(run.config.to_json())
    differing = provenance.differences(theirs, ours, free=FREE)
    if differing:
        name, was, is_now = differing[0]
        return f'its {name} is {was!r}, and would be {is_now!r} now'
    header = json.loads((run.workdir / 'config.json').read_text('utf-8'))
    if header.get('source') != provenance.source_digest():
        return 'the source of ltjax has changed since'
    return ''


def check_data(run: Run) -> None:
    """Raises UserError if a finished run's data have changed since."""
    results = comparison.results_of(run.workdir)
    resuming.same_data(run.workdir, Settings.of(run.config), results)


def train(run: Run) -> str:
    """Trains a run in this process; returns '' or why it failed, in a line."""
    try:
        start.train(run.config, run.workdir)
    except UserError as error:
        return str(error)
    return ''


def command(run: Run, options: Options) -> list[str]:
    """Returns the command line of one run."""
    words = [sys.executable, str(_SCRIPT), run.item, '--row', run.row, '--seeds', str(run.seed)]
    words += ['--benchmark', run.benchmark, '--out', str(options.out)]
    words += ['--threads', str(options.threads)]
    if run.benchmark in options.paths:
        words += ['--path', options.paths[run.benchmark]]
    for key, value in options.changes.items():
        words += ['--set', f'{key}={value!r}']
    return words


def printed(waves: Sequence[Sequence[Run]], options: Options) -> str:
    """Returns a shell script's lines: those of a wave can run at once, and each wave needs the one before."""
    lines = []
    for number, wave in enumerate(waves):
        if number:
            lines.append('# when those above have ended:')
        lines += [shlex.join(command(run, options)) for run in wave]
    return '\n'.join(lines)


def waves(runs: Sequence[Run]) -> list[list[Run]]:
    """Returns the unfinished ones of some runs: those that others wait for, and these."""
    open_runs = list({run.workdir: run for run in runs if not run.finished}.values())
    missing = {run.workdir for run in open_runs}
    later = [run for run in open_runs if run.first in missing]
    return [wave for wave in ([r for r in open_runs if r not in later], later) if wave]


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
