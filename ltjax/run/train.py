"""One whole run: data, recipe, training, test, report."""

import contextlib
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import logging
from clu import parameter_overview
from flax import nnx
from ml_collections import ConfigDict

from ltjax import files, methods, processes, provenance, sharding
from ltjax.data import datasets, identity, summary
from ltjax.data.datasets import DataSet
from ltjax.data.identity import Identity
from ltjax.data.reading import decoding
from ltjax.engine import loop
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.logbook import Logbook
from ltjax.engine.preemption import Interruption
from ltjax.engine.state import TrainState
from ltjax.engine.training import Training
from ltjax.evaluation import whole
from ltjax.evaluation.groups import divide
from ltjax.evaluation.prediction_files import COLUMN
from ltjax.evaluation.predictions import Predictions
from ltjax.evaluation.probabilities import Probabilities
from ltjax.files import user_path
from ltjax.methods.catalog import METHODS
from ltjax.models import tuning
from ltjax.models.held import WEIGHTS
from ltjax.report import model_card, writing
from ltjax.run import build, frozen, looking, ownership, resuming
from ltjax.run.settings import Settings


def run(
    config: ConfigDict | Settings,
    workdir: pathlib.Path,
    *,
    force: bool = False,
    on_round: Callable[[dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Trains, tests and reports as `config` says.

    Args:
      config: see configs/.
      workdir: gets config.json, data_identity.npz, metrics.jsonl, results.json, predictions.npz, validation.npz,
        checkpoints/, tensorboard/, model_card.md and report.html; pretrained.json where weights were loaded,
        excluded.csv where images were left out. A finished run of the same config is not repeated; an unfinished one
        is continued after its newest whole checkpoint.
      force: continue though config, source or versions changed in a way that may change results.
      on_round: is called after every round with its row of metrics.jsonl, on the first process.

    Returns:
      What results.json holds.

    Raises:
      UserError: a mistake in config or data, a workdir that is another's or cannot be written, or training diverged.
      Preempted: SIGTERM or SIGINT ended the run, which can be resumed.
    """
    settings = Settings.of(config)
    ownership.check_place(workdir, settings)
    methods.parse(settings.method)  # a mistake shows before the data are read
    settings = build.follow_weights(build.follow_network(settings))
    build.check_tuning(settings)
    finished = resuming.finished_results(workdir)
    if finished is not None or not force:
        ownership.check(workdir, settings)
    if finished is not None:
        resuming.same_data(workdir, settings, finished)
        return finished
    with ownership.disk_errors(workdir), Interruption() as interruption:
        return _run(settings, workdir, interruption, force=force, on_round=on_round)


def _run(
    settings: Settings,
    workdir: pathlib.Path,
    interruption: Interruption,
    *,
    force: bool,
    on_round: Callable[[dict[str, Any]], object] | None,
) -> dict[str, Any]:
    started = time.monotonic()
    data = datasets.load(settings.data)
    known = Identity.of(data, data.table.protocol(settings.data.split.protocol))
    unlike = build.unlike_benchmark(settings, data)
    said = summary.describe(data, known.digests(), unlike)
    processes.require_equal('the data', said['identity']['sha256'])
    if processes.is_first():
        print(summary.text(said), file=sys.stderr, flush=True)
    groups = class_groups(settings, data)
    recipe = methods.recipe(settings.method, build.make_task(settings, data))
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        check_present = enter(ownership.taken(workdir))
        guards = enter(resuming.safeguards(settings, interruption, check_present))
        guards.provenance['data'] = said['identity']
        checkpoints = enter(contextlib.closing(Checkpoints(workdir / 'checkpoints')))
        resuming.check(settings, workdir, checkpoints, known, guards.provenance, force=force)
        _begin(settings, workdir, data, known)
        logbook = enter(contextlib.closing(Logbook(workdir, on_row=on_round)))
        seen, weights = data, None
        if settings.model.frozen:
            seen, weights = frozen.prepare(settings, recipe, data, said['identity'])
        elif settings.model.pretrained and not (settings.start_from or checkpoints.numbers()):
            weights = build.load_weights(settings, recipe, data.class_names, data.images.shape[3])
        if weights is not None and processes.is_first():
            files.write_json(workdir / 'pretrained.json', weights.record)
        training = build.training(
            settings, seen, recipe, checkpoints, logbook, weights=weights, guards=guards
        )
        state, best = loop.run(training)
        results = _results(settings, data, training, state, said) | {'best': dict(best)}
        results['test'] = test(settings, seen, training, state, groups, workdir)
        results['test']['warnings'] += [*summary.warnings(said), *unlike]
        loaded = user_path(settings.start_from or workdir) / 'pretrained.json'
        if settings.model.pretrained and loaded.exists():
            results['pretrained'] = json.loads(loaded.read_text('utf-8'))
        results['seconds'] = time.monotonic() - started
        finish(workdir, results)
    return results


def _begin(settings: Settings, workdir: pathlib.Path, data: DataSet, known: Identity) -> None:
    """Writes what a run is bound to."""
    ownership.claim(workdir, settings)
    if processes.is_first():
        files.write_npz(workdir / identity.FILE, known.arrays())
        if data.excluded:
            decoding.write(workdir / 'excluded.csv', data.excluded)
    processes.wait_for_first(workdir, 'config.json')


def finish(workdir: pathlib.Path, results: Mapping[str, Any]) -> None:
    """Writes results.json, the model card and the report."""
    if processes.is_first():
        files.write_json(workdir / 'results.json', results)
        model_card.write_model_card(workdir)
        writing.write_report(workdir)
    processes.wait_for_first(workdir, 'report.html')


def class_groups(settings: Settings, data: DataSet) -> dict[str, tuple[int, ...]]:
    """Returns the classes of head, medium and tail: the config's, or by training counts."""
    groups = dataclasses.asdict(settings.data.groups)
    return divide(groups, data.train_counts.tolist(), data.class_names)


def test(
    settings: Settings,
    data: DataSet,
    training: Training,
    state: TrainState,
    groups: Mapping[str, tuple[int, ...]],
    workdir: pathlib.Path,
) -> dict[str, Any]:
    """Applies the selected state to the test and validation splits, and evaluates the test.

    Writes predictions.npz and, of validation images, validation.npz: ids, labels, logits, class_names, features if
    asked for, and where they are known groups and further columns. Writes errors.npz, see `looking`.

    Returns:
      What `whole.evaluate` does.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for side, name in (('test', 'predictions.npz'), ('val', 'validation.npz')):
        part = data.parts[side]
        if not len(part):
            continue
        features, logits = training.predict(state, data.images_of(side))
        found[side] = {
            'ids': data.ids[part],
            'labels': data.labels[part],
            'logits': logits,
            'class_names': np.array(data.class_names),
            'data_sha256': np.array(training.safeguards.provenance['data']['sha256']),
        }
        if data.groups is not None:
            found[side]['groups'] = data.groups[part]
        for column, values in data.columns.items():
            found[side][f'{COLUMN}{column}'] = values.texts()[part]
        kept = found[side] | ({'features': features} if settings.save_features else {})
        if processes.is_first():
            files.write_npz(workdir / name, kept)
        # Of features nobody sees where the network looked.
        if side == 'test' and settings.errors_shown and not settings.model.frozen:
            tested = found[side] | {'features': features}
            looking.write(
                workdir,
                data,
                training,
                state,
                tested,
                tail=groups.get('tail', ()),
                number=settings.errors_shown,
            )
    return whole.evaluate(
        of_arrays(found['test']),
        train_counts=data.train_counts.tolist(),
        groups=groups,
        ordered=data.table.ordered,
        validation=of_arrays(found['val']) if 'val' in found else None,
        num_bootstrap=settings.num_bootstrap,
    )


def of_arrays(arrays: Mapping[str, np.ndarray]) -> Predictions:
    """Returns what predictions.npz holds as predictions to evaluate; UserError if a logit is not finite."""
    return Predictions(
        'predictions.npz',
        arrays['ids'],
        arrays['labels'].astype(np.int64),
        tuple(arrays['class_names'].tolist()),
        Probabilities(arrays['logits']),
        arrays.get('groups'),
        {k.removeprefix(COLUMN): v for k, v in arrays.items() if k.startswith(COLUMN)},
    )


def _results(
    settings: Settings,
    data: DataSet,
    training: Training,
    state: TrainState,
    said: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns what results.json says beside the metrics."""
    # Parts of it may lie on devices of other processes.
    state = sharding.replicate(state._replace(optimizers={}), training.mesh)
    parameters = nnx.to_pure_dict(nnx.filter_state(state.model, WEIGHTS))
    overview = parameter_overview.get_parameter_overview(parameters, include_stats=False)
    logging.info('parameters:\n%s', overview)
    trained, _ = tuning.count(state.model)
    norms = np.linalg.norm(np.asarray(parameters['classifier']['kernel']), axis=0)
    plots = training.recipe.plots(state) if training.recipe.plots is not None else ()
    method = METHODS[settings.method['name']]
    return {
        'method': settings.method['name'],
        'method_title': method.title,
        'paper': f'{method.paper} {method.year}' if method.paper else '',
        'dataset': settings.data.name,
        'benchmark': settings.benchmark,
        'seed': settings.seed,
        'class_names': list(data.class_names),
        'image_shape': list(data.images.shape[1:]),
        'train_counts': data.train_counts.tolist(),
        'split_sha256': said['split']['sha256'],
        'num_folds': len(data.arrangement.folds),
        'data': dict(said),
        'parameters': overview,
        'num_parameters': int(parameter_overview.count_parameters(parameters)),
        'num_trained': trained,
        'plots': [{'title': 'norm of classifier weights', 'per_class': norms.tolist()}, *plots],
        'versions': provenance.versions(),
    }
