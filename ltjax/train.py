"""One whole run: data, recipe, training, test, report."""

import contextlib
import copy
import functools
import json
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from clu import parameter_overview
from flax import nnx

from ltjax import methods, models, resume, sharding
from ltjax import workdir as folder
from ltjax.data import catalog, datasets, identity, summary
from ltjax.data.datasets import DataSet
from ltjax.data.identity import Identity
from ltjax.data.reading import decoding
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.interrupt import Interruption
from ltjax.engine.logbook import Logbook
from ltjax.engine.loop import Training
from ltjax.engine.safeguards import Safeguards
from ltjax.engine.stage import Recipe
from ltjax.engine.state import TrainState
from ltjax.errors import UserError
from ltjax.evaluation import metrics, report
from ltjax.evaluation.groups import by_name, head_medium_tail
from ltjax.files import check_place, user_path
from ltjax.methods.task import Task
from ltjax.models import pretrained, published

# What `config.model` says beside the network itself.
_PRETRAINED = ('pretrained', 'pretrained_sha256', 'pretrained_preprocessing')


def run(config: Any, workdir: pathlib.Path, *, force: bool = False) -> dict[str, Any]:
    """Trains, tests and reports as `config` says.

    Args:
      config: see configs/.
      workdir: gets config.json, metrics.jsonl, results.json, predictions.npz, checkpoints/,
        tensorboard/, report.html, and pretrained.json where weights were loaded. A finished run of
        the same config is not repeated; an unfinished one is continued after its newest whole checkpoint.
      force: continue though config, source or versions changed in a way that may change results.

    Returns:
      What results.json holds.

    Raises:
      UserError: a mistake in config or data, a workdir that is another's or cannot be written, or training diverged.
      Preempted: SIGTERM or SIGINT ended the run, which can be gone on with.
    """
    check_place(workdir, config)
    method = methods.get(config.method.name)
    config = follow_weights(config)
    finished = resume.finished_results(workdir)
    if finished is not None or not force:
        folder.check(workdir, config)
    if finished is not None:
        resume.same_data(workdir, config, finished)
        return finished
    with resume.disk_errors(workdir), Interruption() as interruption:
        started = time.monotonic()
        data = datasets.load(config.data)
        known = Identity.of(data, data.table.protocol(config.data.split.protocol))
        said = summary.describe(data, known.digests())
        folder.require_equal('the data', said['identity']['sha256'])
        if folder.is_first_process():
            print(summary.text(said), file=sys.stderr, flush=True)
        groups = class_groups(config, data)
        if config.num_bootstrap < 1:
            raise UserError(f'num_bootstrap is {config.num_bootstrap}: use 1 or more.')
        recipe = method.recipe(config.method, make_task(config, data))
        with contextlib.ExitStack() as stack:
            check_present = stack.enter_context(resume.taken(workdir))
            guards = stack.enter_context(resume.safeguards(config, interruption, check_present))
            checkpoints = stack.enter_context(
                contextlib.closing(Checkpoints(workdir / 'checkpoints'))
            )
            guards.provenance['data'] = said['identity']
            if (start := _checked_start(config)) is not None:
                resume.same_start(start, known)
            resume.compare_data(workdir, checkpoints, known, force=force)
            resume.compare(checkpoints, guards.provenance, force=force)
            folder.claim(workdir, config)
            folder.write_npz(workdir / identity.FILE, known.arrays())
            folder.wait_for_first(workdir, 'config.json')
            if data.excluded and folder.is_first_process():
                decoding.write(workdir / 'excluded.csv', data.excluded)
            logbook = stack.enter_context(contextlib.closing(Logbook(workdir)))
            weights = None
            if config.model.get('pretrained') and not (config.start_from or checkpoints.numbers()):
                weights = load_weights(config, recipe, data.class_names, data.images.shape[3])
                folder.write_json(workdir / 'pretrained.json', weights.record)
            training = build(config, data, recipe, checkpoints, logbook, weights, guards)
            state, best = training.run()
            results = test(config, data, training, state, best, groups, workdir, said)
            results['test']['warnings'] += summary.warnings(said)
            loaded = user_path(config.start_from or workdir) / 'pretrained.json'
            if config.model.get('pretrained') and loaded.exists():
                results['pretrained'] = json.loads(loaded.read_text('utf-8'))
            results['seconds'] = time.monotonic() - started
            folder.write_json(workdir / 'results.json', results)
            if folder.is_first_process():
                report.write_report(workdir)
            folder.wait_for_first(workdir, 'report.html')
    return results


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


def build(
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
        start_from=_checked_start(config),
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


def class_groups(config: Any, data: DataSet) -> dict[str, tuple[int, ...]]:
    """Returns the classes of head, medium and tail: the config's, or by training counts."""
    chosen = by_name(config.data.groups, data.class_names)
    return head_medium_tail(data.train_counts.tolist(), chosen)


def _checked_start(config: Any) -> pathlib.Path | None:
    """Returns the run to take the first stage from, if the config names one.

    Raises:
      UserError: there is no such run, or it had another network or another seed.
    """
    if not config.start_from:
        return None
    path = user_path(config.start_from)
    if not (path / 'config.json').exists():
        raise UserError(f'{path} is no run: correct --config.start_from.')
    theirs, ours = folder.read_config(path), json.loads(config.to_json())
    for name in ('seed', 'data', 'model'):
        if theirs[name] != ours[name]:
            raise UserError(f'{path} differs in {name} from this config: start from another run.')
    return path


def test(
    config: Any,
    data: DataSet,
    training: Training,
    state: TrainState,
    best: Mapping[str, Any],
    groups: Mapping[str, tuple[int, ...]],
    workdir: pathlib.Path,
    said: Mapping[str, Any],
) -> dict[str, Any]:
    """Applies the selected state to the test split, writes predictions.npz, returns the results."""
    part = data.parts['test']
    features, logits = training.predict(state, data.images_of('test'))
    labels, counts = data.labels[part], data.train_counts.tolist()
    predictions = {
        'ids': data.ids[part],
        'labels': labels,
        'logits': logits,
        'class_names': np.array(data.class_names),
        'data_sha256': np.array(said['identity']['sha256']),
    }
    if config.save_features:
        predictions['features'] = features
    folder.write_npz(workdir / 'predictions.npz', predictions)
    # Parts of it may lie on devices of other processes.
    state = sharding.replicate(state._replace(optimizers={}), training.mesh)
    parameters = nnx.to_pure_dict(nnx.filter_state(state.model, nnx.Param))
    return {
        'method': config.method.name,
        'dataset': config.data.name,
        'seed': config.seed,
        'class_names': list(data.class_names),
        'image_shape': list(data.images.shape[1:]),
        'train_counts': counts,
        'split_sha256': said['split']['sha256'],
        'num_folds': len(data.arrangement.folds),
        'data': dict(said),
        'best': dict(best),
        'num_parameters': int(parameter_overview.count_parameters(parameters)),
        'plots': [
            {
                'title': 'norm of classifier weights',
                'per_class': np.linalg.norm(
                    np.asarray(parameters['classifier']['kernel']), axis=0
                ).tolist(),
            },
            *(training.recipe.plots(state) if training.recipe.plots is not None else ()),
        ],
        'test': metrics.evaluate(
            labels,
            logits,
            class_names=data.class_names,
            train_counts=counts,
            groups=groups,
            ordered=data.table.ordered,
            num_bootstrap=config.num_bootstrap,
        ),
        'versions': folder.versions(),
    }
