"""Parameters that a training holds as they are."""

from collections.abc import Callable
from typing import Any

from flax import nnx


class Held(nnx.Variable[Any]):
    """A parameter that is a constant to a training: no optimiser, decay, gradient or teacher sees it.

    It is no `nnx.Param`, by which those find what they move; it is saved, counted and exported like one.
    """


# What belongs to a network's weights, whether it trains or not.
WEIGHTS = (nnx.Param, Held)


def hold(model: nnx.Module, trains: Callable[[str], bool]) -> None:
    """Makes parameters of `model` held ones, in place.

    Args:
      model: its paths do not change.
      trains: path, such as 'blocks.0.norm1.bias' -> whether that parameter stays one.
    """
    for path, module in list(nnx.iter_modules(model)):
        for name, child in list(vars(module).items()):
            if isinstance(child, nnx.Param) and not trains('.'.join(map(str, (*path, name)))):
                setattr(module, name, Held(child[...]))
