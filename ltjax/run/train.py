"""One whole run: data, recipe, training, test, report."""

import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from clu import parameter_overview
from flax import nnx

from ltjax import files, methods, processes, provenance, sharding
from ltjax.data import datasets, identity, summary
from ltjax.data.datasets import DataSet
from ltjax.data.identity import Identity
from ltjax.data.reading import decoding
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.logbook import Logbook
from ltjax.engine.loop import Training
from ltjax.engine.preemption import Interruption
from ltjax.engine.state import TrainState
from ltjax.errors import UserError
from ltjax.evaluation import metrics, report
from ltjax.evaluation.groups import by_name, head_medium_tail
from ltjax.files import user_path
from ltjax.run import build, ownership, resuming


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
    ownership.check_place(workdir, config)
    method = methods.get(config.method.name)
    config = build.follow_weights(config)
    finished = resuming.finished_results(workdir)
    if finished is not None or not force:
        ownership.check(workdir, config)
    if finished is not None:
        resuming.same_data(workdir, config, finished)
        return finished
    with ownership.disk_errors(workdir), Interruption() as interruption:
        started = time.monotonic()
        data = datasets.load(config.data)
        known = Identity.of(data, data.table.protocol(config.data.split.protocol))
        said = summary.describe(data, known.digests())
        processes.require_equal('the data', said['identity']['sha256'])
        if processes.is_first():
            print(summary.text(said), file=sys.stderr, flush=True)
        groups = class_groups(config, data)
        if config.num_bootstrap < 1:
            raise UserError(f'num_bootstrap is {config.num_bootstrap}: use 1 or more.')
        recipe = method.recipe(config.method, build.make_task(config, data))
        with contextlib.ExitStack() as stack:
            check_present = stack.enter_context(ownership.taken(workdir))
            guards = stack.enter_context(resuming.safeguards(config, interruption, check_present))
            checkpoints = stack.enter_context(
                contextlib.closing(Checkpoints(workdir / 'checkpoints'))
            )
            guards.provenance['data'] = said['identity']
            if (start := resuming.checked_start(config)) is not None:
                resuming.same_start(start, known)
            resuming.compare_data(workdir, checkpoints, known, force=force)
            resuming.compare(checkpoints, guards.provenance, force=force)
            ownership.claim(workdir, config)
            if processes.is_first():
                files.write_npz(workdir / identity.FILE, known.arrays())
                if data.excluded:
                    decoding.write(workdir / 'excluded.csv', data.excluded)
            processes.wait_for_first(workdir, 'config.json')
            logbook = stack.enter_context(contextlib.closing(Logbook(workdir)))
            weights = None
            if config.model.get('pretrained') and not (config.start_from or checkpoints.numbers()):
                weights = build.load_weights(config, recipe, data.class_names, data.images.shape[3])
                if processes.is_first():
                    files.write_json(workdir / 'pretrained.json', weights.record)
            training = build.training(config, data, recipe, checkpoints, logbook, weights, guards)
            state, best = training.run()
            results = test(config, data, training, state, best, groups, workdir, said)
            results['test']['warnings'] += summary.warnings(said)
            loaded = user_path(config.start_from or workdir) / 'pretrained.json'
            if config.model.get('pretrained') and loaded.exists():
                results['pretrained'] = json.loads(loaded.read_text('utf-8'))
            results['seconds'] = time.monotonic() - started
            if processes.is_first():
                files.write_json(workdir / 'results.json', results)
                report.write_report(workdir)
            processes.wait_for_first(workdir, 'report.html')
    return results


def class_groups(config: Any, data: DataSet) -> dict[str, tuple[int, ...]]:
    """Returns the classes of head, medium and tail: the config's, or by training counts."""
    chosen = by_name(config.data.groups, data.class_names)
    return head_medium_tail(data.train_counts.tolist(), chosen)


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
    if processes.is_first():
        files.write_npz(workdir / 'predictions.npz', predictions)
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
        'versions': provenance.versions(),
    }
