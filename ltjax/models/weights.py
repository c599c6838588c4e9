"""A model's weights as PyTorch's tensors, in and out, in the layouts of several libraries."""

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltjax.errors import UserError, unknown
from ltjax.models.classifier import ImageClassifier
from ltjax.models.held import WEIGHTS
from ltjax.models.resnet_cifar import CosineClassifier
from ltjax.models.torch_names import layouts, torch_key

# How many axes of length one PyTorch's tensors have before and after ours, by how a key ends.
_ONES = {
    'layer_scale': (0, 2),  # of torchvision, as a map; others call it gamma and have [C]
    'cls_token': (2, 0),
    'class_embedding': (0, 0),
    'pos_embed': (1, 0),
    'positional_embedding': (0, 0),
    'reg_token': (1, 0),
    'register_tokens': (1, 0),
    'storage_tokens': (1, 0),
    'tokens': (0, 0),  # prompts, which are ours alone
}


def layout_of(model: ImageClassifier, keys: Iterable[str]) -> str:
    """Returns the layout, one of `torch_names.layouts`, that most of the state-dict keys fit.

    'torchvision' and 'timm' are those libraries', 'original' that of the network's authors. Where
    two fit equally (torchvision's and timm's ResNets have the same keys), it is the first.
    """
    given = set(keys)
    paths = [path for path, _ in variables(model)]

    def fitting(layout: str) -> int:
        return len(given.intersection(torch_key(model, path, layout) for path in paths))

    return max(layouts(model), key=fitting)


def from_torch(
    model: ImageClassifier, tensors: Mapping[str, np.ndarray], *, without: Collection[str] = ()
) -> nnx.State[Any, Any]:
    """Returns the model's parameters and running statistics with the values of PyTorch tensors.

    The model is left as it is; `nnx.update(model, state)` takes the values over. Only the model's
    shapes are read, so it may be an abstract one, made under `nnx.eval_shape`.

    Args:
      model: tells which tensors there must be.
      tensors: floating arrays by state-dict key, in any layout of the model's family, with
        PyTorch's axes (convolutions [out, in / groups, height, width], linear layers [out, in]);
        `num_batches_tracked` is ignored.
      without: parts of the model, such as 'classifier', that there need not and must not be tensors of.

    Raises:
      UserError: if a tensor is missing, unknown, not floating, or of another shape.
    """
    layout = layout_of(model, tensors)
    flat = [(path, variable) for path, variable in variables(model) if path[0] not in without]
    keys = [torch_key(model, path, layout) for path, _ in flat]
    given = {key for key in tensors if not key.endswith('num_batches_tracked')}
    missing = [key for key in keys if key not in given]
    strange = sorted(given.difference(keys))
    unfit = []
    for key, (path, variable) in zip(keys, flat, strict=True):
        if key in given:
            expected = _to_torch_axes(model, path, key, np.empty(variable.shape, np.void)).shape
            if tensors[key].shape != expected:
                unfit.append(f'{key} {tensors[key].shape}, not {expected}')
            elif not jnp.issubdtype(tensors[key].dtype, jnp.floating):
                unfit.append(f'{key} of type {tensors[key].dtype}')
    faults = [
        f'{kind} {_listed(names)}'
        for kind, names in (('missing', missing), ('unknown', strange), ('unfit', unfit))
        if names
    ]
    if faults:
        raise UserError(
            f'these weights do not fit {type(model).__name__}: {"; ".join(faults)}: '
            'make the model with the architecture, channels and classes of the weights.'
        )
    loaded = {}
    for key, (path, variable) in zip(keys, flat, strict=True):
        value = _from_torch_axes(model, path, key, tensors[key])
        loaded[path] = variable.replace(jnp.asarray(value, variable.dtype))
    return nnx.from_flat_state(loaded)


def to_torch(model: ImageClassifier, layout: str | None = None) -> dict[str, np.ndarray]:
    """Returns the model's parameters and running statistics as `from_torch` takes them.

    `layout` is one of `torch_names.layouts`; None is the first of them.

    Raises:
      UserError: the model's family has no such layout.
    """
    known = layouts(model)
    if layout is None:
        layout = known[0]
    elif layout not in known:
        raise unknown(f'layout of {type(model).__name__}', layout, known)
    tensors = {}
    for path, variable in variables(model):
        key = torch_key(model, path, layout)
        tensors[key] = _to_torch_axes(model, path, key, np.asarray(variable[...]))
    return tensors


def variables(model: ImageClassifier) -> list[tuple[tuple[Any, ...], Any]]:
    """Returns the paths and variables of the parameters, held ones too, and running statistics."""
    return list(nnx.to_flat_state(nnx.state(model, (*WEIGHTS, nnx.BatchStat))))


def _from_torch_axes(
    model: ImageClassifier, path: tuple[Hashable, ...], key: str, value: np.ndarray
) -> np.ndarray:
    if (ones := _ones(key)) is not None:
        before, after = ones
        return value.reshape(value.shape[before : value.ndim - after])
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value if _is_cosine_kernel(model, path) else value.T


def _to_torch_axes(
    model: ImageClassifier, path: tuple[Hashable, ...], key: str, value: np.ndarray
) -> np.ndarray:
    if (ones := _ones(key)) is not None:
        before, after = ones
        return value.reshape((1,) * before + value.shape + (1,) * after)
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value if _is_cosine_kernel(model, path) else value.T


def _ones(key: str) -> tuple[int, int] | None:
    return _ONES.get(key.rpartition('.')[2])


def _is_cosine_kernel(model: ImageClassifier, path: tuple[Hashable, ...]) -> bool:
    # The one matrix that is [in, out] in PyTorch, too.
    return path[0] == 'classifier' and isinstance(model.classifier, CosineClassifier)


def _listed(names: list[str], most: int = 10) -> str:
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more
