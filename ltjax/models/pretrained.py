"""Starts a model from weights that were trained elsewhere, and writes them back in the same names."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from flax import nnx

from ltjax.errors import UserError
from ltjax.models import published, weight_files
from ltjax.models.classifier import ImageClassifier
from ltjax.models.torch_names import tidied, torch_key
from ltjax.models.weights import from_torch, layout_of, to_torch, variables

Make = Callable[..., ImageClassifier]
Path = tuple[Any, ...]


class Pretrained(NamedTuple):
    """Weights for a model."""

    # Numpy values of the model's parameters and running statistics, to be merged into a fresh model's state; without
    # the classifier's where the model has another or the file has none.
    state: nnx.State[Any, Any]
    record: dict[str, Any]  # what was loaded, for results.json


def load(
    make: Make,
    model: ImageClassifier,
    *,
    name: str,
    sha256: str = '',
    class_names: Sequence[str] | None = None,
) -> Pretrained:
    """Returns the weights `name` as the state of `model`.

    Args:
      make: (num_classes=, channels=, rngs=) -> the model as `models.create` makes it.
      model: the same, maybe abstract, maybe with the further or other heads of a method.
      name: of published weights (`published.PUBLISHED`), or the path of a file that
        `weight_files` reads.
      sha256: that the file must have, or ''.
      class_names: of the model. If the file says that its classifier is for others, or for these in another order,
        it is left out.

    Raises:
      UserError: the file cannot be had, is damaged, or does not fit.
    """
    path, expected = published.locate(name, sha256)
    file = weight_files.read(path, expected)
    try:
        state, layout = fit(make, model, file.tensors)
    except UserError as error:
        raise UserError(f'{path}: {error}') from None
    theirs = json.loads(file.about.get('class_names', 'null'))
    if None not in (theirs, class_names) and theirs != list(class_names or ()):
        flat = {p: v for p, v in nnx.to_flat_state(state) if p[0] != 'classifier'}
        state = nnx.from_flat_state(flat)
    if not file.pinned:
        logging.warning(
            '%s has no checksum; to be sure of it next time set --config.model.pretrained_sha256=%s',
            path,
            file.sha256,
        )
    record = {
        'name': name,
        'sha256': file.sha256,
        'pinned': file.pinned,
        'layout': layout,
        'classifier': 'loaded' if 'classifier' in state else 'fresh',
    }
    known = published.PUBLISHED.get(name)
    if known is not None:
        record['images'] = known.images
    return Pretrained(state, record)


def fit(
    make: Make, model: ImageClassifier, tensors: Mapping[str, np.ndarray]
) -> tuple[nnx.State[Any, Any], str]:
    """Returns the values of PyTorch tensors as the state of a model, and the layout of their names.

    The classifier is left out if the model's is another: of other classes, or a method's own. It, and
    what else of the model `may_be_fresh`, is left out too if there is no tensor of it. Where the tensors
    are for colour and the model's images are grey, the stem's kernel is summed over its input
    channels, which gives what the grey image in every channel would.

    Args:
      make: as for `load`.
      model: as for `load`.
      tensors: float32, by state-dict key; any layout that `weights.from_torch` knows.

    Raises:
      UserError: a tensor is missing, unknown, of another shape or type than the model's, or not
        finite; or the tensors are for other channels.
    """
    ours = dict(variables(model))

    def abstract(num_classes: int, channels: int) -> ImageClassifier:
        return nnx.eval_shape(
            lambda: make(num_classes=num_classes, channels=channels, rngs=nnx.Rngs(0))
        )

    plain = abstract(num_classes=2, channels=1)
    tensors = tidied(plain, tensors)
    _check_values(tensors)
    layout = layout_of(plain, tensors)
    given = {path[0] for path, _ in variables(plain) if torch_key(plain, path, layout) in tensors}
    fresh = set(plain.may_be_fresh) - given

    # The one kernel that grows with the images' channels, and what grows with the classes alone.
    grown = dict(variables(abstract(num_classes=2, channels=2)))
    (stem,) = (path for path, variable in variables(plain) if variable.shape != grown[path].shape)
    head = ('classifier', 'bias' if ('classifier', 'bias') in grown else 'kernel')
    classes = _side(tensors, torch_key(plain, head, layout), -1)
    their_channels = _side(tensors, torch_key(plain, stem, layout), 1)

    made = abstract(num_classes=classes, channels=their_channels)
    loaded = from_torch(made, tensors, without=fresh)
    flat: dict[Path, Any] = dict(nnx.to_flat_state(jax.device_get(loaded)))
    channels = ours[stem].shape[2]
    if channels == 1 and their_channels == 3:
        kernel = flat[stem]
        flat[stem] = kernel.replace(kernel[...].sum(axis=2, keepdims=True))
    elif channels != their_channels:
        raise UserError(
            f'these weights are for images of {their_channels} channels, not {channels}: '
            f'set --config.data.channels={their_channels}.'
        )
    if _classifier(ours) != _classifier(flat):
        flat = {path: variable for path, variable in flat.items() if path[0] != 'classifier'}
    # Of the kinds that the model has: it may hold some of its parameters.
    flat = {path: ours[path].replace(variable[...]) for path, variable in flat.items()}
    return nnx.from_flat_state(flat), layout


def write(
    path: pathlib.Path,
    model: ImageClassifier,
    layout: str | None = None,
    about: Mapping[str, str] | None = None,
) -> None:
    """Writes a model's weights as safetensors, which `load` and PyTorch read again bit for bit.

    Args:
      path: of the file, ending in .safetensors.
      model: any of this package's.
      layout: one of `torch_names.layouts`, such as 'timm'; None: the first.
      about: goes into the file's header: such as the names of the classes, which no tensor says.

    Raises:
      UserError: the model has no such layout, or the file cannot be written.
    """
    weight_files.write(path, to_torch(model, layout), about)


def _check_values(tensors: Mapping[str, np.ndarray]) -> None:
    values = {k: v for k, v in tensors.items() if not k.endswith('num_batches_tracked')}
    wrong = [f'{key} of type {value.dtype}' for key, value in values.items() if value.dtype != 'f4']
    if wrong:
        raise UserError(f'weights should be float32: {"; ".join(wrong[:10])}: convert them.')
    strange = [key for key, value in values.items() if not np.isfinite(value).all()]
    if strange:
        raise UserError(f'{strange[0]} has values that are not finite: take other weights.')


def _classifier(flat: Mapping[Path, Any]) -> dict[Path, tuple[int, ...]]:
    return {path: value.shape for path, value in flat.items() if path[0] == 'classifier'}


def _side(tensors: Mapping[str, np.ndarray], key: str, axis: int) -> int:
    """Returns the length of an axis of the tensor `key`; 1 where there is none, which fits no tensor."""
    value = tensors.get(key)
    return value.shape[axis] if value is not None and value.ndim > max(axis, 0) else 1
