"""Frozen networks: the features of all images are made once and kept, and methods train what comes behind them.

    FOLDER/features/KEY.npy            float32 [N, 1, 1, C]
    FOLDER/features/KEY.part-START.npy the rows from START on, while they are made

KEY is of the weights, the network, the images and how they are brought to it: what it names never changes.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from flax import nnx

from ltjax import files, models, provenance, sharding
from ltjax.data import augment, cache, parallel
from ltjax.data.datasets import DataSet
from ltjax.engine import inference
from ltjax.engine.stage import Recipe
from ltjax.engine.step import make_forward
from ltjax.errors import UserError
from ltjax.models import pretrained
from ltjax.run import build
from ltjax.run.settings import Settings

BATCH_SIZE = 64
_PART = 1024  # images that a killed run may lose


class Frozen(NamedTuple):
    """What a run on features trains on, and where it starts.

    Attributes:
      data: with features float32 [N, 1, 1, C] in place of images.
      weights: of what is behind the encoder: the classifier's, where the file has one for these classes.
    """

    data: DataSet
    weights: pretrained.Pretrained


def prepare(settings: Settings, recipe: Recipe, data: DataSet, known: Mapping[str, str]) -> Frozen:
    """Makes the features of all images, or takes those that are kept.

    Args:
      settings: of the run; its network is frozen.
      recipe: of the method.
      data: the images.
      known: digests of what they are, see `Identity.digests`.

    Raises:
      UserError: there are no weights to be frozen with, they do not fit, or the method changes the encoder.
    """
    if not settings.model.pretrained:
        raise UserError(
            'a frozen network needs weights: give --config.model.pretrained=FILE or a published name.'
        )
    whole, plain = thawed(settings), dataclasses.replace(recipe, add_heads=None)
    classes, channels = len(data.class_names), data.images.shape[3]
    with_heads = nnx.eval_shape(
        lambda: build.create_model(whole, recipe, classes, channels, nnx.Rngs(0))
    )
    if with_heads.branches:
        raise UserError(
            f'method {settings.method["name"]!r} puts blocks into the network, which therefore cannot be frozen: leave '
            'out --config.model.frozen.'
        )
    weights = build.load_weights(whole, plain, data.class_names, channels)

    def network() -> models.ImageClassifier:
        model = build.create_model(whole, plain, classes, channels, nnx.Rngs(0))
        nnx.update(model, weights.state)
        return model

    images = _features(settings, data, network, _place(settings, data, weights, known))
    flat = {path: v for path, v in nnx.to_flat_state(weights.state) if path[0] == 'classifier'}
    behind = weights._replace(state=nnx.from_flat_state(flat))
    return Frozen(dataclasses.replace(data, images=images), behind)


def thawed(settings: Settings) -> Settings:
    """Returns the settings of the whole network."""
    return settings.replace('model.frozen', False)


def _features(
    settings: Settings,
    data: DataSet,
    network: Callable[[], models.ImageClassifier],
    place: pathlib.Path | None,
) -> np.ndarray:
    """Returns the features float32 [N, 1, 1, C] of all images; makes the network where none are kept."""
    if place is not None and place.exists():
        parallel.to_log(f'features are those of {place}')
        kept: np.ndarray = np.load(place, allow_pickle=False)
        return kept
    where = f', kept in {place}' if place is not None else ''
    parallel.to_log(f'features are made by {settings.model.pretrained}{where}')
    mesh = sharding.make_mesh()
    graphdef, state = nnx.split(network())
    view = augment.view('none', mean=settings.data.mean, std=settings.data.std)
    forward, state = make_forward(graphdef, mesh, view), sharding.place_state(state, mesh)
    progress = parallel.Progress('features', len(data.images))
    made = list[np.ndarray]()
    for start in range(0, len(data.images), _PART):
        part = None if place is None else place.with_name(f'{place.stem}.part-{start}.npy')
        rows = np.arange(start, min(start + _PART, len(data.images)))
        found = _kept(part, len(rows))
        if found is None:
            images = np.asarray(data.images[rows])
            found, _ = inference.run(forward, state, images, batch_size=BATCH_SIZE, mesh=mesh)
            _keep(part, found)
        progress.advance(len(rows))
        made.append(found)
    whole = np.concatenate(made)[:, None, None, :]
    _keep(place, whole)
    if place is not None:
        for each in place.parent.glob(f'{place.stem}.part-*.npy'):
            with contextlib.suppress(OSError):
                each.unlink()
    return whole


def _place(
    settings: Settings, data: DataSet, weights: pretrained.Pretrained, known: Mapping[str, str]
) -> pathlib.Path | None:
    """Returns where the features are kept; None if they are not, or several processes would have to agree on it."""
    folder = cache.folder(settings.data)
    if folder is None or jax.process_count() > 1:
        return None
    device = jax.devices()[0]
    model, used = settings.model, settings.data
    of: list[Any] = [
        known['images'],
        known['contents'],
        model.name,
        model.dtype,
        dict(model.options),
        weights.record['sha256'],
    ]
    of += [used.image_size, used.channels, used.interpolation, list(used.mean), list(used.std)]
    of += [list(data.images.shape), device.device_kind, jax.device_count(), provenance.versions()]
    key = hashlib.sha256(json.dumps(of).encode()).hexdigest()[:24]
    return folder / 'features' / f'{key}.npy'


def _kept(path: pathlib.Path | None, rows: int) -> np.ndarray | None:
    try:
        found = None if path is None else np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found is not None and len(found) == rows else None


def _keep(path: pathlib.Path | None, values: np.ndarray) -> None:
    """Writes an array, whole or not at all; without space or permission a line says so."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_npy(path, values)
    except OSError as error:
        logging.warning('%s is not kept (%s)', path, error.strerror or error)


def assemble(
    settings: Settings,
    recipe: Recipe,
    class_names: Sequence[str],
    channels: int,
    record: Mapping[str, Any],
    restore: Callable[[nnx.State[Any, Any]], nnx.State[Any, Any]],
) -> models.ImageClassifier:
    """Returns the whole network of a finished run on features: the encoder it was frozen with, and what it trained.

    Args:
      settings: of the run; its network is frozen.
      recipe: of the method.
      class_names: the K classes.
      channels: of the images.
      record: what pretrained.json says of the weights.
      restore: (state that has the shapes) -> what the run trained.

    Raises:
      UserError: the weights cannot be had, or are others.
    """
    whole, plain = thawed(settings), dataclasses.replace(recipe, add_heads=None)
    classes = len(class_names)
    weights = build.load_weights(whole, plain, class_names, channels)
    if weights.record['sha256'] != record['sha256']:
        raise UserError(
            f'{settings.model.pretrained} is not the file that the run was frozen with: bring that one back '
            f'(sha256 {record["sha256"]}).'
        )
    model = build.create_model(whole, recipe, classes, channels, nnx.Rngs(0))
    nnx.update(model, weights.state)
    behind = build.create_model(settings, recipe, classes, model.feature_dim, nnx.Rngs(0))
    nnx.update(model, restore(nnx.state(behind)))
    return model
