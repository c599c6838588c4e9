"""Everything a training is at one moment, as one pytree."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax.models import ImageClassifier


class TrainState(NamedTuple):
    """What a step reads and writes, a checkpoint keeps, and a resumed run starts from.

    Attributes:
      model: the network's parameters and BatchNorm statistics.
      optimizers: optimiser state of each update, by its name.
      extra: the method's own: teacher, Gaussians, queue ...
    """

    model: nnx.State[Any, Any]
    optimizers: dict[str, Any]
    extra: Any


class LaterStatistic(nnx.BatchStat[Any]):
    """What a later stage fills in, as NCM's class means: a first stage that is borrowed may lack it."""


def parameter_filter(trains: str) -> Any:
    """Returns the nnx filter of the parameters that `trains` selects.

    'all', 'encoder' (all but the classifier), or the beginning of a path, such as 'classifier' or 'classifier.scale'.
    'encoder' and 'classifier' are complementary: together they are 'all', and they share nothing.
    """
    if trains == 'all':
        return nnx.Param
    if trains == 'encoder':
        return nnx.All(nnx.Param, nnx.Not(_below('classifier')))
    return nnx.All(nnx.Param, _below(trains))


def _below(start: str) -> Callable[[Any, Any], bool]:
    def chosen(path: Any, value: Any) -> bool:
        return f'{".".join(map(str, path))}.'.startswith(f'{start}.')

    return chosen


def with_parameters(model: ImageClassifier, parameters: nnx.State[Any, Any]) -> ImageClassifier:
    """Returns a copy of `model` with other parameters and the same BatchNorm statistics."""
    graphdef, state = nnx.split(model)
    statistics = nnx.filter_state(state, nnx.Not(nnx.Param))
    return nnx.merge(graphdef, parameters, statistics, copy=True)


def with_leaves(model: nnx.State[Any, Any], leaves: Mapping[str, Any]) -> nnx.State[Any, Any]:
    """Returns a network's state with some arrays replaced, by their path, for example 'classifier.kernel'.

    Raises:
      KeyError: the network has no such array.
    """
    flat = {'.'.join(map(str, path)): (path, value) for path, value in nnx.to_flat_state(model)}
    made: Any = {}
    for name, leaf in leaves.items():
        path, value = flat[name]
        made[path] = value.replace(jnp.asarray(leaf))
    return nnx.merge_state(model, nnx.from_flat_state(made))


def flatten(tree: Any) -> dict[str, jax.Array]:
    """Returns the leaves of a pytree by their path, for example 'model.classifier.kernel'."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator='.'): leaf for path, leaf in leaves}


def unflatten(leaves: Mapping[str, Any]) -> Any:
    """Returns the dictionaries and tuples that `flatten` made `leaves` of; a number in a path is a place in a tuple."""
    if set(leaves) == {''}:
        return leaves['']
    children: dict[str, dict[str, Any]] = {}
    for path, leaf in leaves.items():
        first, _, rest = path.partition('.')
        children.setdefault(first, {})[rest] = leaf
    tree = {name: unflatten(below) for name, below in children.items()}
    if all(name.isdigit() for name in tree):
        return tuple(tree[str(place)] for place in range(len(tree)))
    return tree
