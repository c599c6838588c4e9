"""Watches a training: what each term of its loss weighs, and whether it pulls the way the label does.

    python scripts/watch.py --config=lmd --benchmark=npz --path=FILE.npz --out=watched
    python scripts/watch.py --config=lmd --benchmark=npz --path=FILE.npz --set method.rrl.ema_decay=0.99

Trains as `--config` says, and before every round looks at each update on the same training images: the value of each
term that its loss logs, the length of that term's gradient by the parameters that the update trains, and the cosine
between it and the gradient of the first term, which is the label's. Of the network, and of its teacher if the method
has one, it takes the recall of every class on the validation images; the test images are not looked at. Writes
OUT/watched.json and OUT/watched.svg.
"""

import argparse
import contextlib
import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import experiments
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from flax import nnx

from ltjax import benchmarks, files, huge_pages, methods
from ltjax.command import exits
from ltjax.data import datasets
from ltjax.engine import loop
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.logbook import Logbook
from ltjax.engine.stage import Run, Stage, Update
from ltjax.engine.state import TrainState, parameter_filter
from ltjax.engine.step import key_for, set_batch_norm
from ltjax.engine.training import Training
from ltjax.report.style import CLASS_COLOURS, new_figure, rendered
from ltjax.run import build
from ltjax.run.settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = 512  # to look at the terms on
BATCH, BATCHES = 128, 40  # of training images, for a teacher's BatchNorm statistics


class Watch:
    """Looks at a training before each round of its stages.

    Attributes:
      training: what is looked at; set before it runs.
      rows: one a round: the stage, the round, the recall of each class, and the terms of each update.
    """

    training: Training

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def over(self, stage: Stage) -> Stage:
        """Returns the stage with a look before each of its rounds."""

        @functools.cache
        def terms_of(at: int) -> Any:  # compiled once, when there is a training
            return _terms_of(stage.updates[at], self.training.graphdef)

        def before_round(state: TrainState, run: Run, round_: int) -> TrainState:
            if stage.before_round is not None:
                state = stage.before_round(state, run, round_)
            terms = {}
            for at, update in enumerate(stage.updates):
                if update.views:
                    batch, key = self._batch(), self.training.key('watch')
                    seen = terms_of(at)(state, batch, key, np.int32(round_ * update.steps))
                    terms[update.name] = jax.tree.map(float, seen)
            self.rows.append(
                {'stage': stage.name, 'round': round_, 'recall': self._recalls(state)} | terms
            )
            return state

        return dataclasses.replace(stage, before_round=before_round)

    def _batch(self) -> dict[str, Any]:
        images = self.training.data.images_of('train')
        chosen = np.random.default_rng(0).permutation(len(images))[:IMAGES]
        return {
            'image': images[chosen],
            'label': self.training.train_labels[chosen].astype(np.int32),
            'index': chosen.astype(np.int32),
        }

    def _recalls(self, state: TrainState) -> dict[str, list[float]]:
        """Returns the recall of every class on validation images, of the network and of its teacher."""
        data = self.training.data
        labels, images = data.labels[data.parts['val']], data.images_of('val')
        states = {'network': state}
        if 'teacher' in state.extra:
            model = nnx.merge_state(state.model, state.extra['teacher'])
            states['teacher'] = state._replace(model=self._with_own_statistics(model))
        classes = [k for k in range(len(data.class_names)) if (labels == k).any()]
        found = {}
        for who, each in states.items():
            called = self.training.predict(each, images)[1].argmax(1)
            found[who] = [float((called[labels == k] == k).mean()) for k in classes]
        return found

    def _with_own_statistics(self, model: nnx.State[Any, Any]) -> nnx.State[Any, Any]:
        """Returns the network with BatchNorm statistics of its own, which a teacher has not: from training images."""
        images = self.training.data.images_of('train')
        order = np.random.default_rng(0).permutation(len(images))
        for start in range(BATCHES):
            rows = np.take(order, range(start * BATCH, (start + 1) * BATCH), mode='wrap')
            model = self._moved(model, images[rows])
        return model

    @functools.cached_property
    def _moved(self) -> Any:
        @jax.jit
        def moved(state: nnx.State[Any, Any], images: jax.Array) -> Any:
            model = nnx.merge(self.training.graphdef, state, copy=True)
            set_batch_norm(model, 'batch')
            model(self.training.view(jax.random.key(0), images))
            return nnx.state(model)

        return moved


def _terms_of(update: Update, graphdef: nnx.GraphDef[Any]) -> Any:
    """Returns (state, batch, key, step) -> value, gradient's length and cosine with the first's, of each term."""

    @jax.jit
    def terms_of(state: TrainState, batch: Any, key: jax.Array, step: jax.Array) -> Any:
        views = {
            name: view(key_for(key, f'view {name}'), batch['image'])
            for name, view in update.views.items()
        }
        trained, rest = nnx.split_state(state.model, parameter_filter(update.trains), ...)

        def values_of(trained: Any) -> dict[str, jax.Array]:
            model = nnx.merge(graphdef, trained, rest, copy=True)
            set_batch_norm(model, update.batch_norm)
            loss = update.loss_fn(model, state.extra, batch | views, key_for(key, 'loss'), step)
            logged = dict(loss.logged) or {'loss': loss.value}
            first.append(
                next(iter(logged))
            )  # JAX gives dictionaries back in the order of their keys
            return logged

        first: list[str] = []
        values, pull_back = jax.vjp(values_of, trained)
        zeros = jax.tree.map(jnp.zeros_like, values)
        gradients = {
            name: pull_back(zeros | {name: jnp.ones_like(value)})[0]
            for name, value in values.items()
        }
        labels = gradients[first[0]]
        found = {}
        for name, gradient in gradients.items():
            lengths = optax.tree.norm(gradient), optax.tree.norm(labels)
            product = optax.tree.vdot(gradient, labels)
            cosine = product / jnp.maximum(lengths[0] * lengths[1], 1e-12)
            found[name] = {'value': values[name], 'gradient': lengths[0], 'cosine': cosine}
        return found

    return terms_of


@rendered
def draw(rows: Sequence[Mapping[str, Any]]) -> 'Figure':
    """Draws the terms' gradients beside the label's, their cosines with it, and the recall, over the rounds."""
    figure = new_figure(10.5, 3.2)
    gradients, cosines, recall = figure.subplots(1, 3)
    known = ('stage', 'round', 'recall')
    updates = dict.fromkeys(name for row in rows for name in row if name not in known)
    terms = [(u, t) for u in updates for t in next(row[u] for row in rows if u in row)]
    for k, (update, term) in enumerate(terms):
        at = [n for n, row in enumerate(rows) if update in row]
        for axis, what in ((gradients, 'gradient'), (cosines, 'cosine')):
            values = [rows[n][update][term][what] for n in at]
            axis.plot(at, values, color=CLASS_COLOURS[k % 8], label=f'{update}: {term}')
    for k, who in enumerate(('network', 'teacher')):
        at = [n for n, row in enumerate(rows) if who in row['recall']]
        values = [100 * np.mean(rows[n]['recall'][who]) for n in at]
        recall.plot(at, values, color=CLASS_COLOURS[k], label=who)
    gradients.set_yscale('log')
    gradients.set_title("Length of each term's gradient")
    cosines.set_title("Cosine with the label's")
    recall.set_title('Balanced accuracy, validation, %')
    for axis in (gradients, cosines, recall):
        axis.set_xlabel('round')
    gradients.legend(fontsize=7)
    recall.legend(fontsize=7)
    return figure


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default='lmd', help='a file of configs/, without .py')
    parser.add_argument('--benchmark', default=benchmarks.DEFAULT)
    parser.add_argument('--path', default='', help="the data set's files, if it is not embedded")
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--set', action='append', default=[], metavar='KEY=VALUE', help='a change to the config'
    )
    parser.add_argument('--out', default='runs/watched', type=files.user_path)
    arguments = parser.parse_args()
    logging.set_verbosity(logging.WARNING)
    experiments.keep_compiled()
    changes = dict(map(experiments.parse_change, arguments.set))
    experiment = experiments.Experiment(arguments.config)
    settings = Settings.of(
        experiments.make_config(
            experiment, arguments.benchmark, arguments.seed, path=arguments.path, changes=changes
        )
    )
    data = datasets.load(settings.data)
    recipe = methods.recipe(settings.method, build.make_task(settings, data))
    watch = Watch()
    recipe = dataclasses.replace(recipe, stages=tuple(map(watch.over, recipe.stages)))
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        workdir = pathlib.Path(folder)
        checkpoints = stack.enter_context(contextlib.closing(Checkpoints(workdir / 'checkpoints')))
        logbook = stack.enter_context(contextlib.closing(Logbook(workdir)))
        watch.training = build.training(settings, data, recipe, checkpoints, logbook)
        loop.run(watch.training)
    files.write_json(arguments.out / 'watched.json', watch.rows)
    (arguments.out / 'watched.svg').write_bytes(draw(watch.rows)['svg'])
    print(f'{len(watch.rows)} rounds: {arguments.out / "watched.svg"}')


if __name__ == '__main__':
    huge_pages.restart()
    with exits():
        main()
