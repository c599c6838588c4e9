"""Config files: where those of the methods lie, and what one says. No jax, so that commands answer at once."""

import inspect
import os
import pathlib
import runpy
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from ltjax.errors import UserError, unknown

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent


def get_config(method: str | os.PathLike[str], benchmark: str | None = None) -> ConfigDict:
    """Returns the settings of a method for a benchmark; keys that it does not have cannot be set.

    Args:
      method: the name of a file of configs/, such as 'lmd', or the path of a config file.
      benchmark: a name that the file's `get_config` takes, such as 'isic2018@aduni', or 'folder',
        'csv' or 'npz' for data of one's own; None: the file's default.

    Raises:
      UserError: there is no such file or benchmark.
    """
    path = find(os.fspath(method))
    function = runpy.run_path(str(path)).get('get_config')
    if function is None:
        raise UserError(f'{path} has no function get_config: write one that returns a ConfigDict.')
    arguments = () if benchmark is None else (benchmark,)
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise UserError(f'get_config of {path}: {error}; it should take a benchmark.') from None
    return function(*arguments).lock()


def folder() -> pathlib.Path:
    """Returns where the methods' config files lie: inside an installed package, beside that of a clone."""
    inside = _PACKAGE / 'configs'
    return inside if inside.is_dir() else _PACKAGE.parent / 'configs'


def find(name: str) -> pathlib.Path:
    """Returns the path of a config file, given as such or by the name of a method.

    configs/NAME.py, which the documentation writes, is found from everywhere.

    Raises:
      UserError: there is none.
    """
    path = pathlib.Path(name).expanduser()
    bare = name == path.name and not path.suffix
    documented = str(path.parent) == 'configs'
    ours = folder() / f'{path.stem}.py'
    if (bare or (documented and not path.is_file())) and ours.is_file():
        return ours
    if path.is_file():
        return path
    if bare or (documented and not path.parent.is_dir()):
        raise unknown('config', path.stem, (each.stem for each in folder().glob('*.py')))
    beside = [str(each) for each in path.parent.glob('*.py')]
    if not beside:
        raise UserError(f'config file {name!r} does not exist: correct the path.')
    raise unknown('config file', name, beside)


def values(config: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yields the full names of a config's values, 'data.path', and the values."""
    for name, value in config.items():
        if hasattr(value, 'items') and value:
            yield from values(value, f'{prefix}{name}.')
        else:
            yield prefix + name, value
