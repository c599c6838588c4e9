"""Trains a classifier on a long tail: `python -m ltjax.main --config=configs/lmd.py`.

Any value of the config is overridden by --config.NAME=VALUE; a config file takes the data set as its argument, as in
--config=configs/lmd.py:chula_rbc12 --config.data.path=FILE.npz.
"""

import hashlib
import os
import pathlib
import re
import runpy
import sys
import time
from collections.abc import Iterator
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from ltjax import cluster, huge_pages
from ltjax.errors import Preempted, UserError, unknown
from ltjax.files import user_path
from ltjax.run import settings

_CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'A file of configs/, with the data set after a colon.', lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    'workdir',
    None,
    'Where the run is written; default: runs/METHOD-DATASET-seedSEED, and a number for what is overridden.',
)
_FORCE = flags.DEFINE_bool(
    'force_resume',
    False,
    'Go on with a run though its config, the source or versions changed in a way that may change results.',
)
_CACHE = flags.DEFINE_string(
    'compilation_cache',
    '~/.cache/ltjax/xla',
    'Where compiled steps are kept between runs; empty: nowhere.',
)
_COORDINATOR = flags.DEFINE_string(
    'coordinator',
    None,
    'HOST:PORT of process 0, of several on one run; PORT+1 is used too. Schedulers are asked first: docs/cluster.md.',
)
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many processes there are.')
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which this is, from 0.')
_JOIN_TIMEOUT = flags.DEFINE_float('join_timeout', 45.0, 'Seconds until all processes are there.')


def main(argv: list[str]) -> None:
    """Runs what the flags say, as one of several processes if they or the environment say so."""
    if len(argv) > 1:
        raise UserError(
            f'unexpected argument {argv[1]!r}: values are given as --config.NAME=VALUE.'
        )
    if _CONFIG.value is None:
        raise UserError('no config: give --config=configs/lmd.py, say.')
    config = _CONFIG.value
    workdir = user_path(_WORKDIR.value or default_workdir(config, sys.argv))
    if not flags.FLAGS['verbosity'].present:
        logging.set_verbosity(logging.WARNING)  # the libraries tell at length what they do
    member = cluster.find(
        os.environ,
        coordinator=_COORDINATOR.value,
        num_processes=_NUM_PROCESSES.value,
        process_id=_PROCESS_ID.value,
    )
    with cluster.joined(member, config, workdir, timeout=_JOIN_TIMEOUT.value):
        run(config, workdir)


def run(config: Any, workdir: pathlib.Path) -> None:
    """Trains, tests and reports; prints the table of test metrics and the path of the report."""
    # Imported here, so that --help and a mistyped flag answer at once.
    import jax

    from ltjax.evaluation import table
    from ltjax.run import cross_validation, train

    if _CACHE.value:
        jax.config.update('jax_compilation_cache_dir', str(pathlib.Path(_CACHE.value).expanduser()))
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
    started = time.monotonic()
    finished = (workdir / 'results.json').exists()
    every_fold = config.data.split.fold == cross_validation.ALL
    results = (cross_validation if every_fold else train).run(config, workdir, force=_FORCE.value)
    if finished:
        print(f'{workdir} already holds this run, finished; remove it to run again.')
    print(table.format_metrics(results))
    for warning in results['test']['warnings']:
        print(f'\nnote: {warning}')
    print(f'\n{time.monotonic() - started:.0f} s; report: {workdir / "report.html"}')


def default_workdir(config: Any, argv: list[str]) -> str:
    """Returns a folder for this config: what is overridden has its own, unless it is the seed or changes no result."""
    free = '|'.join(('seed', *settings.FREE))
    name = f'runs/{config.method.name}-{config.data.name}-seed{config.seed}'
    overridden = {word for word in argv if re.match(rf'--?(no)?config\.(?!({free})\b)', word)}
    digest = hashlib.sha256('\n'.join(sorted(overridden)).encode()).hexdigest()
    return f'{name}-{digest[:6]}' if overridden else name


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; a mistake in them becomes one line."""
    check_config(argv)
    try:
        return flags.FLAGS(argv)
    except SystemExit:
        sys.exit(0)  # --help was answered, which absl ends with status 1
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(' '.join(str(error).split())) from None


def check_config(argv: list[str]) -> None:
    """Raises UserError for a config file, data set or config key that does not exist, naming the nearest.

    ml_collections finds these too, but tells them in a traceback.
    """
    words = '\n'.join(argv)
    given = re.search(r'^--?config(?:=|\n)(.+)$', words, flags=re.MULTILINE)
    if given is None:
        return
    path, *argument = given[1].split(':', 1)
    if not pathlib.Path(path).is_file():
        folder = pathlib.Path(path).parent
        raise unknown('config file', path, map(str, folder.glob('*.py')))
    config = runpy.run_path(path)['get_config'](*argument)
    valid = list(_keys(config))
    for name in re.findall(r'^--?(?:no)?config\.([\w.]+)', words, flags=re.MULTILINE):
        if name not in valid and not any(key.startswith(f'{name}.') for key in valid):
            raise unknown('config key', name, valid)


def _keys(config: Any, prefix: str = '') -> Iterator[str]:
    for name, value in config.items():
        if hasattr(value, 'items'):
            yield from _keys(value, f'{prefix}{name}.')
        else:
            yield prefix + name


def cli() -> None:
    """The entry point: mistakes end with one line on stderr and exit status 2, a run told to end with 75."""
    try:
        app.run(main, flags_parser=parse)
    except Preempted as end:
        print(end, file=sys.stderr)
        raise
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    huge_pages.restart()
    cli()
