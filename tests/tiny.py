"""Data sets and runs small enough to train in a second; shared by the tests."""

import contextlib
import importlib
import io
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from ltjax import methods, sharding
from ltjax.data import datasets
from ltjax.data.reading.table import Column
from ltjax.engine import loop, rounds
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.logbook import Logbook
from ltjax.engine.preemption import Interruption
from ltjax.engine.rounds import Rounds, Runner
from ltjax.engine.state import flatten, parameter_filter
from ltjax.engine.training import Training
from ltjax.errors import Preempted
from ltjax.methods.task import Task
from ltjax.run import build, train
from ltjax.run.settings import Settings

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
COUNTS = (32, 16, 8)
STAGES = ('pretrain', 'train', 'retrain', 'rrl')
LAST = {'select': 'last'}
# Whether tests take every pair of a product, of methods and devices say, and not only those with code of their own.
ALL = os.environ.get('LTJAX_TEST_ALL') == '1'
# What of a config changes nothing that JAX traces; the data's own are beside it in `traced_once`.
UNTRACED = ('data', 'num_bootstrap', 'errors_shown', 'select', 'checkpoint', 'start_from')


def arrays(
    counts: tuple[int, ...] = COUNTS, *, size: int = 12, channels: int = 1, held: int = 4
) -> dict[str, np.ndarray]:
    """Returns a set with counts[k] training and twice `held` other images of class k; classes differ in brightness.

    `site` is a further column of two values, which some images lack.
    """
    rng = np.random.default_rng(0)
    classes = np.arange(len(counts))
    labels = np.concatenate([np.repeat(classes, counts), np.repeat(classes, held).repeat(2)])
    split = np.array(['train'] * sum(counts) + ['val', 'test'] * (held * len(counts)))
    noise = rng.integers(0, 120, (len(labels), size, size, channels))
    images = (noise + 40 * labels[:, None, None, None]).astype(np.uint8)
    site = np.array(['back', 'face', ''])[np.arange(len(labels)) % 3]
    return {'images': images, 'labels': labels, 'split': split, 'site': site}


def npz(path: pathlib.Path, **changes: Any) -> pathlib.Path:
    """Writes `arrays()` with changes (None leaves an array out) to `path`."""
    values = arrays() | changes
    np.savez(path, **{name: value for name, value in values.items() if value is not None})
    return path


def config(name: str, path: pathlib.Path, overrides: dict[str, Any] | None = None) -> Any:
    """Returns configs/NAME.py for its default data set, shrunk, and reading the npz at `path`."""
    made = importlib.import_module(f'configs.{name}').get_config()
    made.data.format, made.data.path = 'npz', str(path)
    shrink(made)
    for stage in STAGES:
        if stage in made.method:
            made.method[stage].view = 'upright_weak'
    made.update_from_flattened_dict(overrides or {})
    return made


def run_of(folder: pathlib.Path, names: Sequence[str]) -> pathlib.Path:
    """Returns the workdir of a finished cross-entropy run below `folder`; its classes have these names."""
    path = npz(folder / 'data.npz', class_names=np.array(names))
    train.run(config('cross_entropy', path), folder / 'run')
    return folder / 'run'


def shrink(made: Any) -> None:
    """Makes a config one of a small network, two rounds a stage and small batches; its views and the rest stay."""
    made.model = {'name': 'small_cnn', 'width': 4, 'dtype': 'float32'}
    made.num_bootstrap, made.errors_shown = 10, 0
    for stage in STAGES:
        if stage in made.method:
            made.method[stage].epochs = 2
            # Eight devices share 16 images, and with them three classes 24.
            blocks = made.method[stage].get('sampler') == 'balanced_blocks'
            made.method[stage].batch_size = 24 if blocks else 16
            if 'warmup_epochs' in made.method[stage]:
                made.method[stage].warmup_epochs = 1
            if made.method[stage].get('defer_until'):
                made.method[stage].defer_until = 1
    if 'query' in made.method:
        made.method.query.update({'after': 1, 'every': 1, 'passes': 2})
    if 'rrl' in made.method:
        made.method.rrl.start_epoch = 1
        made.method.icc.update(
            {
                'rounds': 2,
                'virtual_per_class': 16,
                'm_batch_size': 24,
                'e_batch_size': 16,
                'balanced_e': False,
            }
        )


def tuned(
    name: str, data: Any = 'any', changes: dict[str, Any] | None = None, **others: Any
) -> Any:
    """Returns `config` that takes the last round, with `changes` below `method` and `others` beside it."""
    named = {f'method.{key}': value for key, value in (changes or {}).items()}
    return config(name, data, LAST | named | others)


def task(counts: tuple[int, ...] = COUNTS) -> Task:
    """Returns what a method is told about `arrays(counts)`."""
    return Task(np.array(counts), (0.5,), (0.25,))


def columns(names: Any) -> dict[str, Column]:
    """Returns further columns of the training images of `arrays()`, as its `site` is."""
    codes = (np.arange(sum(COUNTS)) + 1) % 3 - 1
    return {name: Column(codes.astype(np.int32), ('back', 'face')) for name in names}


def training(
    made: Any, folder: pathlib.Path, *, logbook: Logbook | None = None, mesh: Any = None
) -> Training:
    """Returns the training that `made` describes, with its checkpoints in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = datasets.load(made.data)
    recipe = methods.recipe(made.method, build.make_task(Settings.of(made), data))
    with pytest.MonkeyPatch.context() as patch:
        if mesh is not None:
            patch.setattr(sharding, 'make_mesh', lambda **_: mesh)
        return build.training(
            Settings.of(made),
            data,
            recipe,
            Checkpoints(folder / 'checkpoints'),
            logbook or Recorder(),
        )


@contextlib.contextmanager
def plain_figures() -> Iterator[None]:
    """Within it a figure of a report is an empty one."""
    from matplotlib.figure import Figure

    drawn = Figure.savefig

    def savefig(figure: Figure, file: Any, **options: Any) -> None:
        if isinstance(file, io.BytesIO) and options.get('format') == 'svg':  # as a report has them
            file.write(b'<svg xmlns="http://www.w3.org/2000/svg"/>')
        else:
            drawn(figure, file, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, 'savefig', savefig)
        yield


@contextlib.contextmanager
def traced_once() -> Iterator[None]:
    """Trainings of one config share what JAX traced of it, which takes longer than the steps and is always the same.

    What is not jitted is each training's own: the recipe, and whatever it might keep. Not for tests that replace
    something that is traced.
    """
    training, runner, kept = build.training, Rounds.runner, {}

    def shared_training(settings: Settings, *arguments: Any, **options: Any) -> Training:
        made = training(settings, *arguments, **options)
        told = [item for item in settings.values.items() if item[0] not in UNTRACED]
        told += [settings.data.mean, settings.data.std, made.data.train_counts, made.data.columns]
        made.traced = (str(told), made.mesh)
        made._init, made._forward = kept.setdefault(made.traced, (made._init, made._forward))
        return made

    def shared_runner(rounds_: Rounds, update: Any) -> Runner:
        made = runner(rounds_, update)
        key = (rounds_._training.traced, made.name, made.calls.most)
        return made._replace(step=kept.setdefault(key, made.step))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, 'training', shared_training)
        patch.setattr(Rounds, 'runner', shared_runner)
        yield


def run(made: Any, folder: pathlib.Path, **options: Any) -> tuple[Any, dict[str, Any], list[dict]]:
    """Trains as `made` says; returns the selected state on the host, the best round and the rows of the log."""
    trained = training(made, folder, **options)
    try:
        state, best = loop.run(trained)
    finally:
        trained.checkpoints.close()
    return jax.device_get(state), best, trained.logbook.rows


def watch(made: Any, folder: pathlib.Path) -> tuple[list[tuple[str, Any, Any]], Any]:
    """Runs as `run`; returns every step's update, state before and state after, on the host, and what `run` does."""
    steps, runner = [], Rounds.runner

    def watched(rounds_: Rounds, update: Any) -> Runner:
        made_ = runner(rounds_, update)

        def step(state: Any, *inputs: Any, **count: Any) -> Any:
            before = jax.device_get(state)
            state, metrics = made_.step(state, *inputs, **count)
            steps.append((update.name, before, jax.device_get(state)))
            return state, metrics

        return made_._replace(step=step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rounds, 'runner', watched)
        patch.setattr(rounds, 'STEPS_PER_CALL', 1)
        return steps, run(made, folder)


class EndAt(Interruption):
    """Asks the run to end after one step of it."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._at = step

    def reached(self, step: int) -> bool:
        return step == self._at


def end_at(made: Any, folder: pathlib.Path, step: int) -> dict[str, Any]:
    """Trains until after `step`, inside a round; returns the progress saved there."""
    trained = training(made, folder)
    trained.safeguards.interruption = EndAt(step)
    with contextlib.closing(trained.checkpoints) as checkpoints, pytest.MonkeyPatch.context() as p:
        # Steps that are made many a call end with a call; the bits do not depend on how many.
        p.setattr(rounds, 'STEPS_PER_CALL', 1)
        with pytest.raises(Preempted, match=rf'saved at step {step} of'):
            loop.run(trained)
        return checkpoints.progress(step)


class Interrupted(Exception):
    """What `interrupt` ends a run with."""


def interrupt(made: Any, folder: pathlib.Path, *, at: int) -> None:
    """Trains as `made` says until `at` checkpoints are saved and the next is due, and ends there without saving it."""
    trained = training(made, folder)
    save, saved = trained.checkpoints.save, 0

    def failing(*arguments: Any) -> None:
        nonlocal saved
        if saved == at:
            raise Interrupted
        saved += 1
        save(*arguments)

    trained.checkpoints.save = failing
    try:
        loop.run(trained)
    except Interrupted:
        return
    finally:
        trained.checkpoints.close()
    raise AssertionError(f'the run ended before checkpoint {at}')


class Recorder(Logbook):
    """Keeps the rows in a list, writes nothing."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.incidents: list[dict] = []

    def row(self, values: dict[str, Any], *, step: int) -> None:
        self.rows.append(values | {'step': step})

    def begin(self, *_: Any, **__: Any) -> None:
        pass

    def incident(self, values: Any) -> None:
        self.incidents.append(values)

    def progress(self, *_: Any) -> None:
        pass


def timeless(rows: list[dict]) -> list[dict]:
    """Returns rows of the log without what a clock measured."""
    clocks = ('seconds', 'images_per_second')
    return [{name: value for name, value in row.items() if name not in clocks} for row in rows]


def same(a: Any, b: Any) -> bool:
    """Tells whether two trees are equal bit for bit."""
    ours, theirs = jax.tree.leaves(a), jax.tree.leaves(b)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(
        np.asarray(x).tobytes() == np.asarray(y).tobytes()
        for x, y in zip(ours, theirs, strict=True)
    )


def parameters(state: Any, trains: str = 'all') -> dict[str, np.ndarray]:
    """Returns the parameters of a part of the network by name."""
    return flatten(nnx.split_state(state.model, parameter_filter(trains), ...)[0])


def moved(before: Any, after: Any) -> set[str]:
    """Returns the names of what differs in two states' networks."""
    before, after = flatten(before.model), flatten(after.model)
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


def finite(state: Any, rows: list[dict]) -> bool:
    """Tells whether a state and the rows of its log have no NaN and no infinity."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if np.issubdtype(leaf.dtype, np.floating)]
    values = [v for row in rows for v in row.values() if isinstance(v, float)]
    return all(np.isfinite(leaf).all() for leaf in leaves) and bool(np.isfinite(values).all())
