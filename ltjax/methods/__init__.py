"""One file a method or family: `Config` has its values, `recipe(config, task)` its stages, losses, views and state."""

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ltjax.engine.stage import Recipe
from ltjax.errors import unknown
from ltjax.methods.task import Task
from ltjax.settings import typed


def names() -> list[str]:
    """Returns the methods: the public modules of this package."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in modules if name != 'task']


def get(name: str) -> ModuleType:
    """Returns the module of the method `name`.

    Raises:
      UserError: there is no such method.
    """
    if name not in names():
        raise unknown('method', name, names())
    return importlib.import_module(f'ltjax.methods.{name}')


def parse(config: Mapping[str, Any]) -> Any:
    """Returns the method's `Config` for the `method` part of a config.

    Raises:
      UserError: a method, key or value that does not exist.
    """
    values = {key: value for key, value in config.items() if key != 'name'}
    return typed(get(config['name']).Config, values, 'method')


def recipe(config: Mapping[str, Any], task: Task) -> Recipe:
    """Returns what the `method` part of a config makes of a data set.

    Raises:
      UserError: as `parse`; or values do not fit together or to the data.
    """
    return get(config['name']).recipe(parse(config), task)
