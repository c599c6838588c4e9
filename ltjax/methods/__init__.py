"""One file a method or family: `recipe(config, task)` says which stages, losses, views and state it is made of."""

import importlib
import pkgutil
from types import ModuleType

from ltjax.errors import unknown


def names() -> list[str]:
    """Returns the methods: the public modules of this package."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in modules if name not in ('task',)]


def get(name: str) -> ModuleType:
    """Returns the module of the method `name`.

    Raises:
      UserError: there is no such method.
    """
    if name not in names():
        raise unknown('method', name, names())
    return importlib.import_module(f'ltjax.methods.{name}')
