"""What a run is made of: the network, where its weights come from, and the loop that trains it."""

import copy
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from flax import nnx

from ltjax import models, sharding
from ltjax.data import catalog
from ltjax.data.datasets import DataSet
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.logbook import Logbook
from ltjax.engine.loop import Training
from ltjax.engine.safeguards import Safeguards
from ltjax.engine.stage import Recipe
from ltjax.errors import UserError
from ltjax.methods.task import Task
from ltjax.models import pretrained, published
from ltjax.run import resuming

# What `config.model` says beside the network itself.
_PRETRAINED = ('pretrained', 'pretrained_sha256', 'pretrained_preprocessing')


def follow_weights(config: Any) -> Any:
    """Returns `config` with its images prepared as published weights expect, where it leaves that open.

    Open is each of data.image_size, channels, mean, std and interpolation that is as the catalog has it. Grey
    images (data.channels=1) take the means of mean and std over the channels.

    Raises:
      UserError: weights of another model, or neither a file nor a published name.
    """
    known = published.find(config.model.get('pretrained', ''), config.model.name)
    if known is None or not config.model.get('pretrained_preprocessing', True):
        return config
    name = config.data.name
    usual = catalog.get(name if name in catalog.DATA_SETS else 'npz')
    mean, std = known.mean, known.std
    if config.data.channels == 1:
        mean, std = (float(np.mean(mean)),), (float(np.mean(std)),)
    config = copy.deepcopy(config)
    for key, value in {
        'image_size': known.size,
        'channels': len(mean),
        'mean': mean,
        'std': std,
        'interpolation': known.interpolation,
    }.items():
        given = config.data[key]
        if given == value:
            continue
        if given == usual[key]:
            config.data[key] = value
            logging.warning('data.%s is %s, as %s expects', key, value, config.model.pretrained)
        else:
            logging.warning(
                'data.%s stays %s; %s expects %s', key, given, config.model.pretrained, value
            )
    return config


def make_task(config: Any, data: DataSet) -> Task:
    """Returns what a method is told about a data set.

    Raises:
      UserError: mean and std do not fit the images' channels.
    """
    channels = data.images.shape[3]
    for name in ('mean', 'std'):
        if len(config.data[name]) not in (1, channels):
            raise UserError(
                f'data.{name} has {len(config.data[name])} values for {channels} channels: '
                f'give one or {channels}.'
            )
    return Task(data.train_counts, tuple(config.data.mean), tuple(config.data.std))


def training(
    config: Any,
    data: DataSet,
    recipe: Recipe,
    checkpoints: Checkpoints,
    logbook: Logbook,
    weights: pretrained.Pretrained | None = None,
    guards: Safeguards | None = None,
) -> Training:
    """Wires a recipe to a data set: the network, where it starts, and the loop that trains it."""
    num_classes, channels = len(data.class_names), data.images.shape[3]
    return Training(
        data=data,
        create=lambda key: create_model(config, recipe, num_classes, channels, nnx.Rngs(key)),
        recipe=recipe,
        view=make_task(config, data).view('none'),
        seed=config.seed,
        mesh=sharding.make_mesh(**config.mesh),
        logbook=logbook,
        checkpoints=checkpoints,
        select=config.select,
        start_from=resuming.checked_start(config),
        accumulate=config.accumulate,
        initial=None if weights is None else weights.state,
        safeguards=guards or Safeguards(),
    )


def create_model(
    config: Any, recipe: Recipe, num_classes: int, channels: int, rngs: nnx.Rngs
) -> models.ImageClassifier:
    """Returns the freshly initialised network that `config.model` describes, with the heads of its method."""
    model = _network(config)(num_classes=num_classes, channels=channels, rngs=rngs)
    if recipe.add_heads is not None:
        recipe.add_heads(model, rngs)
    return model


def load_weights(
    config: Any, recipe: Recipe, class_names: Sequence[str], channels: int
) -> pretrained.Pretrained:
    """Returns the weights that `config.model.pretrained` names, for the network of `create_model`.

    Raises:
      UserError: they cannot be had, are damaged, or do not fit.
    """
    model = nnx.eval_shape(
        lambda: create_model(config, recipe, len(class_names), channels, nnx.Rngs(0))
    )
    return pretrained.load(
        _network(config),
        model,
        name=config.model.pretrained,
        sha256=config.model.get('pretrained_sha256', ''),
        class_names=class_names,
    )


def _network(config: Any) -> functools.partial:
    options = {key: value for key, value in config.model.items() if key not in _PRETRAINED}
    return functools.partial(models.create, **options)
