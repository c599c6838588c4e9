"""PyTorch's names and layouts for a model's weights, in and out."""

from collections.abc import Hashable, Iterable, Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltjax.errors import UserError
from ltjax.models.layers import ImageClassifier
from ltjax.models.resnet import ResNet
from ltjax.models.resnet_cifar import CifarResNet32

# torchvision and timm call a ResNet's classifier 'fc', LDAM-DRW's CIFAR networks 'linear'.
_CLASSIFIER_NAMES: Mapping[type, str] = {ResNet: 'fc', CifarResNet32: 'linear'}
_LEAF_NAMES = {
    'kernel': 'weight',
    'scale': 'weight',
    'bias': 'bias',
    'mean': 'running_mean',
    'var': 'running_var',
}
_SHORTCUT_NAMES = {'conv': '0', 'bn': '1'}
_MOST_LISTED = 10

_WEIGHTS = (nnx.Param, nnx.BatchStat)


def from_torch(model: ImageClassifier, tensors: Mapping[str, np.ndarray]) -> nnx.State:
    """Returns the model's parameters and running statistics with the values of PyTorch tensors.

    The model is left as it is; `nnx.update(model, state)` takes the values over. Only the model's
    shapes are read, so it may be an abstract one, made under `nnx.eval_shape`.

    Args:
      model: tells which tensors there must be.
      tensors: floating arrays by state-dict key, in PyTorch's layouts (convolutions [out, in /
        groups, height, width], linear layers [out, in]); `num_batches_tracked` is ignored.

    Raises:
      UserError: if a tensor is missing, unknown, not floating, or of another shape.
    """
    flat = list(nnx.to_flat_state(nnx.state(model, _WEIGHTS)))
    keys = [torch_key(model, path) for path, _ in flat]
    given = {key for key in tensors if not key.endswith('num_batches_tracked')}
    missing = [key for key in keys if key not in given]
    unknown = sorted(given.difference(keys))
    unfit = []
    for key, (_, variable) in zip(keys, flat, strict=True):
        if key in given:
            expected = _torch_shape(variable.shape)
            if tensors[key].shape != expected:
                unfit.append(f'{key} {tensors[key].shape}, not {expected}')
            elif not jnp.issubdtype(tensors[key].dtype, jnp.floating):
                unfit.append(f'{key} of type {tensors[key].dtype}')
    faults = [
        f'{kind} {_listed(names)}'
        for kind, names in (('missing', missing), ('unknown', unknown), ('unfit', unfit))
        if names
    ]
    if faults:
        raise UserError(
            f'these weights do not fit {type(model).__name__}: {"; ".join(faults)}: '
            'make the model with the architecture, channels and classes of the weights.'
        )
    return nnx.from_flat_state(
        (path, variable.replace(jnp.asarray(_from_torch_layout(tensors[key]), variable.dtype)))
        for key, (path, variable) in zip(keys, flat, strict=True)
    )


def to_torch(model: ImageClassifier) -> dict[str, np.ndarray]:
    """Returns the model's parameters and running statistics as `from_torch` takes them."""
    return {
        torch_key(model, path): _to_torch_layout(np.asarray(variable[...]))
        for path, variable in nnx.to_flat_state(nnx.state(model, _WEIGHTS))
    }


def torch_key(model: ImageClassifier, path: Iterable[Hashable]) -> str:
    """Returns the state-dict key of the variable at `path` of `model`.

    Args:
      model: its class decides what the classifier is called.
      path: as nnx gives it, for example ('layer1', 0, 'conv1', 'kernel').
    """
    parts = [str(part) for part in path]
    parts[-1] = _LEAF_NAMES[parts[-1]]
    if parts[0] == 'classifier':
        parts[0] = _CLASSIFIER_NAMES.get(type(model), parts[0])
    if 'downsample' in parts:
        parts[-2] = _SHORTCUT_NAMES[parts[-2]]
    return '.'.join(parts)


def _from_torch_layout(value: np.ndarray) -> np.ndarray:
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value.T


def _to_torch_layout(value: np.ndarray) -> np.ndarray:
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value.T


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return _to_torch_layout(np.empty(shape, np.void)).shape


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_LISTED
    shown = ', '.join(names[:_MOST_LISTED])
    return f'{shown} and {more} more' if more > 0 else shown
