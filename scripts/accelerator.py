"""Measures ltjax on an accelerator, one GPU, in a few minutes; what was measured is kept if it is cut off.

    python scripts/accelerator.py --out DIR [--minutes 7] [--only PART ...]

Writes DIR/results.json, anew with every figure, and DIR/summary.md, which it prints at the end. Parts, those that are
worth most first; each has a process and a time limit of its own, and what does not fit into the time left is left out:

  versions: the device, its driver, the versions.
  default_job: configs/lmd.py from a cold process, and again with what that compiled.
  beside_torch: train steps at 224 pixels, batches 256 and 64, beside PyTorch; then the forward pass.
  stage_one: the same of LMD's first stage, ResNet-18, batch 64.
  em_round: a round of LMD's second stage, K = 23, C = 512 and 2048.
  roofline: ResNet-50's and ConvNeXt-Tiny's steps against a matrix product and a copy.
  small_sets: steps of small networks, one and many a call, and the same steps alone.
  files: training from files over training on one batch.
  depthwise: ConvNeXt's depthwise convolutions, XLA's and the sum over taps.
  profile: the kernels that take most of a step.
  tests: a few tests on the device.

A part that fails, or runs into its limit, is recorded with the end of its output; the others go on, and the exit
status is 1. Nothing needs a network. Parts beside PyTorch need it installed, and are left out without it.
"""

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks import tables
from benchmarks.commands import PREALLOCATE, ROOT, Job
from benchmarks.parts import PARTS

from ltjax import huge_pages
from ltjax.errors import UserError, unknown
from ltjax.files import user_path

DONE, FAILED, CUT = 'done', 'failed', 'ran into its limit'
LEFT_OUT, UNDER_WAY = 'left out', 'under way'
LAST_LINES = 20
LONGEST = 60  # of a name in the summary

# With less of its limit than this share, a part would do little but compile.
LEAST_SHARE = 1 / 3
WATCHED_SECONDS = 0.5


def job(name: str, rows: pathlib.Path, told: Job) -> None:
    """Measures a part in this process; writes its figures to `rows`, anew with each."""
    import jax

    cache = str(pathlib.Path('~/.cache/ltjax/xla').expanduser())  # as `python -m ltjax.main` does
    jax.config.update('jax_compilation_cache_dir', cache)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
    found = []
    for row in PARTS[name].measure(told):
        found.append(row)
        write(rows, json.dumps(found))


def write(path: pathlib.Path, text: str) -> None:
    """Writes a file so that there is the old or the new one at any time."""
    new = path.with_name(f'{path.name}.new')
    new.write_text(text, 'utf-8')
    new.replace(path)


def measure(
    command: list[str], limit: float, rows: pathlib.Path, tell: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    """Runs a part's process; returns what is recorded of it.

    Args:
      command: which writes figures to `rows`.
      limit: seconds, after which it is ended, with all that it started.
      rows: a file, in a folder of its own.
      tell: is given what there is so far, whenever that is more.
    """
    environment = {PREALLOCATE: 'false'} | os.environ
    path = filter(None, (str(ROOT), os.environ.get('PYTHONPATH')))
    environment['PYTHONPATH'] = os.pathsep.join(path)
    started, seen, status = time.monotonic(), 0, ''
    with rows.with_name('output').open('w+', encoding='utf-8', errors='replace') as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            while not status:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = FAILED if process.wait(WATCHED_SECONDS) else DONE
                if not status and time.monotonic() - started > limit:
                    status = CUT
                found = json.loads(rows.read_text('utf-8')) if rows.exists() else []
                if len(found) > seen:
                    seen = len(found)
                    tell({'status': UNDER_WAY, 'rows': found})
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        lines = output.read().splitlines()
    found = json.loads(rows.read_text('utf-8')) if rows.exists() else []
    record = {'status': status, 'seconds': time.monotonic() - started, 'rows': found}
    return record if status == DONE else record | {'output': lines[-LAST_LINES:]}


def summary(results: Mapping[str, Any]) -> str:
    """Returns the results as Markdown: how each part went, then the figures that tell most."""
    parts = results['parts']
    overview = [
        {
            'part': name,
            'status': part['status'],
            'seconds': part.get('seconds', ''),
            'of at most': part.get('limit', ''),
            'figures': len(part.get('rows', ())),
        }
        for name, part in parts.items()
    ]
    text = [tables.rows(overview)]
    for name, part in parts.items():
        shown = PARTS[name].shown
        rows = [
            {key: short(row[key]) for key in shown if key in row} for row in part.get('rows', ())
        ]
        if rows:
            text += [f'### {name}', tables.rows(rows)]
        said = [part['why']] if 'why' in part else part.get('output', [])[-3:]
        if said:
            text.append('\n'.join(f'{name}: {line}' for line in said))
    return '\n\n'.join(text) + '\n'


def short(value: Any) -> Any:
    """Returns a figure; of a name, such as a kernel's, the beginning."""
    return f'{value[:LONGEST]}...' if isinstance(value, str) and len(value) > LONGEST else value


def run(
    names: Iterable[str],
    out: pathlib.Path,
    *,
    small: bool,
    minutes: float,
    limits: Mapping[str, float],
    traces: pathlib.Path | None,
) -> dict[str, Any]:
    """Measures parts one after another; returns what `out` then holds as results.json."""
    end = time.monotonic() + 60 * minutes
    results: dict[str, Any] = {'small': small, 'minutes': minutes, 'parts': {}}

    def record(name: str, limit: float, part: Mapping[str, Any]) -> None:
        results['parts'][name] = {'limit': limit, **part}
        write(out / 'results.json', json.dumps(results, indent=1) + '\n')
        write(out / 'summary.md', summary(results))

    for name in names:
        limit, left = limits.get(name, PARTS[name].limit), end - time.monotonic()
        if PARTS[name].torch and importlib.util.find_spec('torch') is None:
            record(name, limit, {'status': LEFT_OUT, 'why': 'PyTorch is not installed.'})
            continue
        if left < LEAST_SHARE * limit:
            why = f'{max(0, left):.0f} s were left, and it may need {limit:.0f}.'
            record(name, limit, {'status': LEFT_OUT, 'why': why})
            continue
        limit = min(limit, left)
        print(f'{name}: at most {limit:.0f} s', file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            rows = pathlib.Path(folder, 'rows.json')
            told = [name, str(rows), {'small': small, 'seconds': limit}]
            command = [sys.executable, __file__, '--job', json.dumps(told)]
            command += ['--keep-traces', str(traces)] if traces else []
            so_far = functools.partial(record, name, limit)
            so_far({'status': UNDER_WAY})
            measured = measure(command, limit, rows, so_far)
        so_far(measured)
    return results


def one_limit(text: str) -> tuple[str, float]:
    """Returns a part and its limit, of PART=SECONDS."""
    name, _, seconds = text.partition('=')
    return name, float(seconds)


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=user_path, metavar='DIR', help='where the results go')
    parser.add_argument('--minutes', type=float, default=7.0, help='for all parts; default: 7')
    parser.add_argument('--only', nargs='+', metavar='PART', help='in this order; default: all')
    parser.add_argument('--small', action='store_true', help='tiny sizes, for a CPU too')
    parser.add_argument(
        '--limit', nargs='+', type=one_limit, default=[], metavar='PART=SECONDS', help='of a part'
    )
    parser.add_argument(
        '--keep-traces', type=user_path, metavar='DIR', help='where `profile` leaves its traces'
    )
    parser.add_argument('--job', type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        name, rows, told = arguments.job
        job(name, pathlib.Path(rows), Job(**told, traces=arguments.keep_traces))
        return 0
    if arguments.out is None:
        raise UserError('no folder for the results: give --out DIR.')
    limits = dict(arguments.limit)
    for name in (*(arguments.only or ()), *limits):
        if name not in PARTS:
            raise unknown('part', name, PARTS)
    names = list(dict.fromkeys(arguments.only or PARTS))
    arguments.out.mkdir(parents=True, exist_ok=True)
    # Told to end, it ends what it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    results = run(
        names,
        arguments.out,
        small=arguments.small,
        minutes=arguments.minutes,
        limits=limits,
        traces=arguments.keep_traces,
    )
    print(summary(results), end='')
    bad = (FAILED, CUT)
    return int(any(part['status'] in bad for part in results['parts'].values()))


if __name__ == '__main__':
    huge_pages.restart()
    try:
        sys.exit(main())
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
