"""Trains a classifier on a long tail: `python -m ltjax.main --config=configs/lmd.py`.

Any value of the config is overridden by --config.NAME=VALUE; a config file takes the benchmark as its argument, as in
--config=configs/lmd.py:chula_rbc12 --config.data.path=FILE.npz. With --help-config all values are printed, and nothing
is trained.
"""

import hashlib
import os
import pathlib
import re
import sys
import time
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from ltjax import huge_pages
from ltjax.command import exits
from ltjax.errors import UserError, unknown
from ltjax.files import user_path
from ltjax.run import config_files, settings

_CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'A method or a config file, with the benchmark after a colon.', lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    'workdir',
    None,
    'Where the run is written; default: runs/METHOD-BENCHMARK-seedSEED, and a number for what is overridden.',
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
    'HOST:PORT of process 0, of several on one run. Schedulers tell it themselves: docs/cluster.md.',
)
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many processes there are.')
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which this is, from 0.')
_HELP = {'--help', '-help', '-h', '-?', '--helpshort', '-helpshort'}
_HELP_CONFIG = {'--help-config', '--help_config'}
_JOIN_TIMEOUT = flags.DEFINE_float('join_timeout', 45.0, 'Seconds until all processes are there.')


def main(argv: list[str]) -> None:
    """Runs what the flags say, as one of several processes if they or the environment say so."""
    if len(argv) > 1:
        raise UserError(
            f'unexpected argument {argv[1]!r}: values are given as --config.NAME=VALUE.'
        )
    if _CONFIG.value is None:
        raise UserError('no config: give --config=lmd, say.')
    config = _CONFIG.value
    workdir = user_path(_WORKDIR.value or default_workdir(config, sys.argv))
    if not flags.FLAGS['verbosity'].present:
        logging.set_verbosity(logging.WARNING)  # the libraries tell at length what they do
    # Imported here, so that --help and a mistyped flag answer at once.
    import jax

    from ltjax.processes import detection, joining

    if _CACHE.value:  # jax looks at it when it first compiles, which is when processes join
        jax.config.update('jax_compilation_cache_dir', str(pathlib.Path(_CACHE.value).expanduser()))
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
    member = detection.find(
        os.environ,
        coordinator=_COORDINATOR.value,
        num_processes=_NUM_PROCESSES.value,
        process_id=_PROCESS_ID.value,
    )
    with joining.joined(member, config, workdir, timeout=_JOIN_TIMEOUT.value):
        run(config, workdir)


def run(config: Any, workdir: pathlib.Path) -> None:
    """Trains, tests and reports; prints the table of test metrics and the path of the report."""
    from ltjax import benchmarks
    from ltjax.evaluation import table
    from ltjax.run import start

    started = time.monotonic()
    finished = (workdir / 'results.json').exists()
    results = start.train(config, workdir, force=_FORCE.value)
    if finished:
        print(f'{workdir} already holds this run, finished; remove it to run again.')
    experiment = benchmarks.find(config.benchmark)
    print(table.format_metrics(results, experiment.metrics if experiment else ()))
    reported = experiment.reported.get(results['method'], {}) if experiment else {}
    if reported:
        print(f'\nthe paper reports: {table.listed_figures(reported)}')
    for warning in results['test']['warnings']:
        print(f'\nnote: {warning}')
    print(f'\n{time.monotonic() - started:.0f} s; report: {workdir / "report.html"}')


def default_workdir(config: Any, argv: list[str]) -> str:
    """Returns a folder for this config: what is overridden has its own, unless it is the seed or changes no result."""
    free = '|'.join(('seed', *settings.FREE))
    name = f'runs/{config.method.name}-{config.benchmark or config.data.name}-seed{config.seed}'
    overridden = {word for word in argv if re.match(rf'--?(no)?config\.(?!({free})\b)', word)}
    digest = hashlib.sha256('\n'.join(sorted(overridden)).encode()).hexdigest()
    return f'{name}-{digest[:6]}' if overridden else name


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; a mistake in them becomes one line."""
    if _HELP & {*argv[1:]}:
        module = flags.FLAGS.find_module_defining_flag('workdir')
        print(f'{__doc__}\nflags:\n{flags.FLAGS.module_help(module)}')
        print('Try --helpfull to get a list of all flags.')
        sys.exit(0)
    show_config = bool(_HELP_CONFIG & {*argv})
    argv = found([word for word in argv if word not in _HELP_CONFIG])
    try:
        rest = flags.FLAGS(argv)
    except SystemExit:
        sys.exit(0)  # --helpfull was answered, which absl ends with status 1
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(' '.join(str(error).split())) from None
    if show_config:
        if _CONFIG.value is None:
            raise UserError('no config: give --config=lmd:fashion_mnist_lt_mini, say.')
        for name, value in config_files.values(_CONFIG.value):
            print(f'--config.{name}={value}')
        sys.exit(0)
    return rest


def found(argv: list[str]) -> list[str]:
    """Returns the arguments with the path of the config file in place of its name.

    Raises:
      UserError: a config file, benchmark or config key does not exist; the nearest is named. ml_collections finds these
        too, but tells them in a traceback.
    """
    argv, valid = [*argv], None
    for at, word in enumerate(argv):
        given = re.fullmatch(r'(--?config=)(.+)', word, flags=re.DOTALL)
        flag, value = given.groups() if given else ('', word)
        if given is None and (at == 0 or argv[at - 1] not in ('--config', '-config')):
            continue
        name, *benchmark = value.split(':', 1)
        path = config_files.find(name)
        valid = [key for key, _ in config_files.values(config_files.get_config(path, *benchmark))]
        argv[at] = ':'.join([f'{flag}{path}', *benchmark])
    for name in re.findall(r'^--?(?:no)?config\.([\w.]+)', '\n'.join(argv), flags=re.MULTILINE):
        if valid and name not in valid and not any(key.startswith(f'{name}.') for key in valid):
            raise unknown('config key', name, valid)
    return argv


@exits()
def cli() -> None:
    """The entry point."""
    app.run(main, flags_parser=parse)


if __name__ == '__main__':
    huge_pages.restart()
    cli()
