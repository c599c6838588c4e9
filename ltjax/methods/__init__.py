"""The methods: `catalog` lists them; one file or folder a family has their `Config` (values) and `recipe` (stages).

`recipe(config, task)` says which stages, losses, views and state they train with. Imports in no time.
"""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ltjax.errors import unknown
from ltjax.methods.catalog import METHODS
from ltjax.settings import typed

if TYPE_CHECKING:
    from ltjax.engine.stage import Recipe
    from ltjax.methods.task import Task


def names() -> list[str]:
    """Returns the methods, by the names of their files in configs/."""
    return list(METHODS)


def get(name: str) -> ModuleType:
    """Returns the family of the method `name`.

    Raises:
      UserError: there is no such method.
    """
    if name not in METHODS:
        raise unknown('method', name, METHODS)
    return importlib.import_module(f'ltjax.methods.{METHODS[name].family}')


def parse(config: Mapping[str, Any]) -> Any:
    """Returns the family's `Config` for the `method` part of a config.

    Raises:
      UserError: a method, key or value that does not exist.
    """
    values = {key: value for key, value in config.items() if key != 'name'}
    return typed(get(config['name']).Config, values, 'method')


def recipe(config: Mapping[str, Any], task: 'Task') -> 'Recipe':
    """Returns what the `method` part of a config makes of a data set.

    Raises:
      UserError: as `parse`; or values do not fit together or to the data.
    """
    made: Recipe = get(config['name']).recipe(parse(config), task)
    return made
