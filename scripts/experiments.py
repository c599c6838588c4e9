"""What scripts/compare.py can train: the rows of scripts/experiments.toml as configs, and whether they are equal."""

import argparse
import ast
import json
import pathlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax import benchmarks, files, methods
from ltjax.data.reading.table import Column
from ltjax.errors import UserError, unknown
from ltjax.methods.catalog import METHODS
from ltjax.methods.task import Task
from ltjax.run import config_files

FILE = pathlib.Path(__file__).resolve().with_name('experiments.toml')


class Experiment(NamedTuple):
    """A training.

    Attributes:
      config: a file of configs/, without its .py.
      overrides: changes to it, by dotted name.
      small: further changes on benchmarks that are no paper's, for which they were chosen.
      first: an experiment with the same first stage.
    """

    config: str
    overrides: Mapping[str, Any] = {}
    small: Mapping[str, Any] = {}
    first: str = ''


class Table(NamedTuple):
    """Rows of a table, and those of them that all others are compared with."""

    rows: Sequence[str]
    references: Sequence[str]


def read(path: pathlib.Path = FILE) -> tuple[dict[str, Experiment], dict[str, Table]]:
    """Returns the experiments and tables of a TOML file, beside those that `catalog.METHODS` has by itself.

    Raises:
      UserError: the file cannot be read, or a table or experiment names one that is not there.
    """
    try:
        content = tomllib.loads(path.read_text('utf-8'))
        experiments = {m.title: Experiment(name) for name, m in METHODS.items()}
        experiments |= {k: Experiment(**v) for k, v in content['experiments'].items()}
        tables = {'all': Table([m.title for m in METHODS.values() if not m.further], ['CE'])}
        tables |= {k: Table(**v) for k, v in content['tables'].items()}
    except (OSError, tomllib.TOMLDecodeError, TypeError, KeyError) as error:
        raise UserError(f'{path}: {error}: see scripts/experiments.toml for the form.') from None
    firsts = [experiment.first for experiment in experiments.values() if experiment.first]
    for name in [*firsts, *(row for table in tables.values() for row in table.rows)]:
        if name not in experiments:
            raise unknown(f'experiment in {path}', name, experiments)
    for name, table in tables.items():
        if not table.references or not set(table.references) <= set(table.rows):
            raise UserError(f'{path}: the references of the table {name} should be among its rows.')
    return experiments, tables


def make_config(
    experiment: Experiment,
    benchmark_name: str,
    seed: int,
    *,
    path: str = '',
    changes: Mapping[str, Any] = {},
) -> Any:
    """Returns the config of one experiment and seed.

    Args:
      experiment: the row.
      benchmark_name: the benchmark's.
      seed: of the run.
      path: the data set's files, if it is not embedded.
      changes: to all rows, by dotted name.

    Raises:
      UserError: an override of what the config does not have.
    """
    benchmark = benchmarks.get(benchmark_name)
    config = config_files.get_config(experiment.config, benchmark.name)
    own = dict(experiment.overrides) | ({} if benchmark.paper else dict(experiment.small))
    own = {k: benchmark.epochs if v == 'CE' else v for k, v in own.items()}
    for where, values in ((f'configs/{experiment.config}.py', own), ('--set', changes)):
        try:
            config.update_from_flattened_dict(values)
        except KeyError:
            keys = _flat(config.to_dict())
            wrong = next(key for key in values if key not in keys)
            raise UserError(f'overrides of {where}: {unknown("key", wrong, keys)}') from None
        except TypeError as error:
            raise UserError(f'overrides of {where}: {error.args[0]}') from None
    config.data.path = str(files.user_path(path)) if path else ''
    config.seed = seed
    config.save_features = False
    return config


def _flat(values: Mapping[str, Any], before: str = '') -> list[str]:
    """Returns the dotted names of a config's values, and of the parts that hold them."""
    found = []
    for key, value in values.items():
        found.append(f'{before}{key}')
        found += _flat(value, f'{before}{key}.') if isinstance(value, dict) else []
    return found


def slug(name: str, seed: int) -> str:
    """Returns an experiment's folder: 'lmd-w-o-rrl-0'."""
    words = ''.join(letter if letter.isalnum() else ' ' for letter in name.lower()).split()
    return f'{"-".join(words)}-{seed}'


def keep_compiled() -> None:
    """Keeps what is compiled for later runs, in a folder of the user's unless JAX was told of another."""
    name = 'jax_compilation_cache_dir'  # which JAX's types do not know as an attribute
    if not getattr(jax.config, name):
        jax.config.update(name, str(pathlib.Path('~/.cache/ltjax/xla').expanduser()))


def add_arguments(parser: argparse.ArgumentParser, seeds: str) -> None:
    """Adds what all comparisons are asked: --seeds, with its default, --set and --out."""
    parser.add_argument('--seeds', default=seeds, type=_seeds, help='comma-separated')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        help='a change to the config of every row',
    )
    parser.add_argument('--out', default='runs/compare', type=files.user_path)


def _seeds(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r'\d+(,\d+)*', text):
        raise UserError(f'--seeds={text}: give numbers separated by commas.')
    seeds = tuple(map(int, text.split(',')))
    if len(set(seeds)) < len(seeds):
        raise UserError(f'--seeds={text}: give each number once.')
    return seeds


def parse_change(text: str, flag: str = '--set') -> tuple[str, Any]:
    """Returns name and value of KEY=VALUE; the value is Python's, or else a text."""
    name, equals, value = text.partition('=')
    if not equals or not name:
        raise UserError(f'{flag} {text}: give KEY=VALUE.')
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def twins(configs: Mapping[str, Any]) -> dict[str, str]:
    """Returns of each row that is, on this benchmark, the same as an earlier one, which that is."""
    seen: dict[str, str] = {}
    found = {}
    for name, config in configs.items():
        text = json.dumps(json.loads(config.to_json()), sort_keys=True)
        if text in seen:
            found[name] = seen[text]
        else:
            seen[text] = name
    return found


def unequal(configs: Mapping[str, Any], reference: str) -> dict[str, str]:
    """Says in what rows differ from the reference: network, initial weights, pixels, passes of the encoder.

    Passes may differ by a thirtieth: batches of whole blocks of classes do not divide every set alike.
    """
    of = {name: _terms(config) for name, config in configs.items()}
    theirs, found = of[reference], {}
    for name, terms in of.items():
        differing = {what: value for what, value in terms.items() if value != theirs[what]}
        if abs(terms['epochs'] - theirs['epochs']) <= theirs['epochs'] / 30:
            differing.pop('epochs', None)
        if differing:
            said = {k: 'none' if value in ('', None) else value for k, value in differing.items()}
            found[name] = ', '.join(f'{what} {value}' for what, value in said.items())
    return found


def marks(configs: Mapping[str, Any], unequal: Mapping[str, str]) -> dict[str, list[str]]:
    """Returns what a table says behind the names of rows: what the method takes, and in what a row is not equal."""
    said = {}
    for name, config in configs.items():
        method = METHODS[config.method.name]
        said[name] = [method.needs] if method.needs else []
        if method.status == 'reading':
            said[name].append('our reading')
        if name in unequal:
            said[name].append(f'not equal: {unequal[name]}')
    return said


def _terms(config: Any) -> dict[str, Any]:
    classes = benchmarks.get(config.benchmark).classes or 10
    further = {name: Column(np.zeros(0, np.int32), ('a', 'b')) for name in config.data.further}
    task = Task(np.full(classes, 1024), tuple(config.data.mean), tuple(config.data.std), further)
    images = sum(
        stage.rounds * update.steps * update.batch_size
        for stage in methods.recipe(config.method, task).stages
        for update in stage.updates
        if update.views and not update.trains.startswith('classifier')
    )
    model = {key: value for key, value in config.model.items() if key not in ('dtype', 'remat')}
    return {
        'network': model.pop('name'),
        **model,
        'pixels': config.data.image_size,
        'epochs': round(images / (classes * 1024)),
    }
