"""What a run is made of: the network, where its weights come from, and the loop that trains it."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging
from flax import nnx

from ltjax import benchmarks, models, sharding
from ltjax.data.datasets import DataSet
from ltjax.data.settings import Data
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.logbook import Logbook
from ltjax.engine.safeguards import Safeguards
from ltjax.engine.stage import Recipe
from ltjax.engine.training import Training
from ltjax.errors import UserError
from ltjax.methods.task import Task
from ltjax.models import pretrained, published, tuning
from ltjax.run import resuming
from ltjax.run.settings import Settings


def follow_weights(settings: Settings) -> Settings:
    """Returns `settings` with images prepared as published weights expect, where the config leaves that open.

    Open is each of data.image_size, channels, mean, std and interpolation that is as the benchmark has it. Grey
    images (data.channels=1) take the means of mean and std over the channels.

    Raises:
      UserError: weights of another model, or neither a file nor a published name.
    """
    model, data = settings.model, settings.data
    known = published.find(model.pretrained, model.name)
    if known is None or not model.pretrained_preprocessing:
        return settings
    experiment = benchmarks.find(settings.benchmark) or benchmarks.get('npz')
    if experiment.model.get('pretrained') == model.pretrained:
        return settings  # it says itself how its images are prepared
    usual = Data.of(experiment.data_config())
    mean, std = known.mean, known.std
    if data.channels == 1:
        mean, std = (float(np.mean(mean)),), (float(np.mean(std)),)
    for key, value in {
        'image_size': known.size,
        'channels': len(mean),
        'mean': mean,
        'std': std,
        'interpolation': known.interpolation,
    }.items():
        given = getattr(data, key)
        if given == value:
            continue
        if given == getattr(usual, key):
            settings = settings.replace(f'data.{key}', value)
            logging.warning('data.%s is %s, as %s expects', key, value, model.pretrained)
        else:
            logging.warning('data.%s stays %s; %s expects %s', key, given, model.pretrained, value)
    return settings


def follow_network(settings: Settings) -> Settings:
    """Returns `settings` without what a benchmark says of its own network that another one does not take."""
    experiment = benchmarks.find(settings.benchmark)
    name, values = settings.model.name, dict(settings.values)
    if experiment is None or name == experiment.model['name']:
        return settings
    theirs = [
        option
        for option, value in settings.model.options.items()
        if option not in models.options(name) and experiment.model.get(option) == value
    ]
    model = {key: value for key, value in values['model'].items() if key not in theirs}
    return Settings.of(values | {'model': model})


def check_tuning(settings: Settings) -> None:
    """Refuses before the data are read what of a network cannot be tuned.

    Raises:
      UserError: the network is frozen or has no weights, or the way or its size does not suit it.
    """
    model = settings.model
    if not model.tune:
        if model.tune_size:
            raise UserError(f'model.tune_size is {model.tune_size}: give --config.model.tune too.')
        return
    if model.frozen:
        raise UserError(
            f'a frozen network cannot be tuned: leave out --config.model.frozen or --config.model.tune={model.tune}.'
        )
    if not model.pretrained:
        raise UserError(
            f'model.tune={model.tune!r} needs weights: give --config.model.pretrained=FILE or a published name.'
        )
    nnx.eval_shape(lambda: create_model(settings, Recipe(()), 2, 3, nnx.Rngs(0)))


def unlike_benchmark(settings: Settings, data: DataSet) -> list[str]:
    """Says in what the data are not those of the benchmark: a sentence each."""
    experiment = benchmarks.find(settings.benchmark)
    if experiment is None:
        return []
    counts = {name: len(rows) for name, rows in data.parts.items()}
    return experiment.differences(data.class_names, counts | {'all': len(data.ids)})


def make_task(settings: Settings, data: DataSet) -> Task:
    """Returns what a method is told about a data set.

    Raises:
      UserError: mean and std do not fit the images' channels.
    """
    channels = data.images.shape[3]
    on_features = settings.model.frozen
    for name in ('mean', 'std'):
        if not on_features and len(getattr(settings.data, name)) not in (1, channels):
            raise UserError(
                f'data.{name} has {len(getattr(settings.data, name))} values for {channels} channels: '
                f'give one or {channels}.'
            )
    train = data.parts['train']
    return Task(
        data.train_counts,
        tuple(settings.data.mean),
        tuple(settings.data.std),
        {name: column.of(train) for name, column in data.columns.items()},
        on_features,
    )


def training(
    settings: Settings,
    data: DataSet,
    recipe: Recipe,
    checkpoints: Checkpoints,
    logbook: Logbook,
    *,
    weights: pretrained.Pretrained | None = None,
    guards: Safeguards | None = None,
) -> Training:
    """Wires a recipe to a data set: the network, where it starts, and the loop that trains it."""
    num_classes, channels = len(data.class_names), data.images.shape[3]
    return Training(
        data=data,
        create=lambda key: create_model(settings, recipe, num_classes, channels, nnx.Rngs(key)),
        recipe=recipe,
        view=make_task(settings, data).view('none'),
        seed=settings.seed,
        mesh=sharding.make_mesh(data=settings.mesh.data, fsdp=settings.mesh.fsdp),
        logbook=logbook,
        checkpoints=checkpoints,
        select=settings.select,
        start_from=resuming.checked_start(settings),
        accumulate=settings.accumulate,
        initial=None if weights is None else weights.state,
        safeguards=guards or Safeguards(),
    )


def create_model(
    settings: Settings, recipe: Recipe, num_classes: int, channels: int, rngs: nnx.Rngs
) -> models.ImageClassifier:
    """Returns the freshly initialised network that `config.model` describes, with the heads of its method."""
    model = _network(settings)(num_classes=num_classes, channels=channels, rngs=rngs)
    if settings.model.tune:
        tuning.tune(model, settings.model.tune, settings.model.tune_size, rngs=rngs)
    if recipe.add_heads is not None:
        recipe.add_heads(model, rngs)
    return model


def load_weights(
    settings: Settings, recipe: Recipe, class_names: Sequence[str], channels: int
) -> pretrained.Pretrained:
    """Returns the weights that `config.model.pretrained` names, for the network of `create_model`.

    Raises:
      UserError: they cannot be had, are damaged, or do not fit.
    """
    model = nnx.eval_shape(
        lambda: create_model(settings, recipe, len(class_names), channels, nnx.Rngs(0))
    )
    if settings.model.tune:
        trained, all_ = tuning.count(nnx.state(model))
        logging.info('%s of %s parameters train', f'{trained:,}', f'{all_:,}')
    return pretrained.load(
        _network(settings),
        model,
        name=settings.model.pretrained,
        sha256=settings.model.pretrained_sha256,
        class_names=class_names,
    )


def _network(settings: Settings) -> functools.partial[models.ImageClassifier]:
    model = settings.model
    if model.frozen:
        on_features: Callable[..., models.ImageClassifier] = models.OnFeatures
        return functools.partial(on_features, dtype=model.dtype)
    return functools.partial(
        models.create,
        name=model.name,
        dtype=model.dtype,
        remat=model.remat,
        **model.options,
    )
