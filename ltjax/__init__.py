"""ltjax: long-tailed (medical) image classification in JAX and Flax.

    config = ltjax.get_config('lmd', 'folder')
    config.data.path = 'FOLDER'
    results = ltjax.train(config, 'runs/mine')
    predictions = ltjax.load('runs/mine').predict('NEW_IMAGES')

A mistake raises `ltjax.UserError`, with the line that the commands print.
"""

import importlib
from typing import TYPE_CHECKING

from ltjax.version import __version__ as __version__

if TYPE_CHECKING:
    from ltjax import losses
    from ltjax.errors import UserError
    from ltjax.run.config_files import get_config
    from ltjax.run.start import train
    from ltjax.run.trained import load

__all__ = ['UserError', 'get_config', 'load', 'losses', 'train']

# Where each lies: they are imported when they are asked for, since jax takes seconds.
_MODULES = {
    'UserError': 'ltjax.errors',
    'get_config': 'ltjax.run.config_files',
    'load': 'ltjax.run.trained',
    'train': 'ltjax.run.start',
}

if not TYPE_CHECKING:

    def __getattr__(name):
        if name == 'losses':
            return importlib.import_module('ltjax.losses')
        if name not in _MODULES:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
        value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
