"""The one training loop: the stages of a recipe, round by round, each round validated and saved."""

import contextlib
import dataclasses
import math
import pathlib
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from sklearn.metrics import balanced_accuracy_score

from ltjax import sharding
from ltjax.data.datasets import DataSet
from ltjax.data.pipeline import SAMPLERS, Feed
from ltjax.data.readers import Images
from ltjax.engine import inference
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.logbook import Logbook
from ltjax.engine.stage import Recipe, Stage, Update
from ltjax.engine.state import TrainState, parameter_filter
from ltjax.engine.step import BATCH_NORM, Step, key_for, make_forward, make_step
from ltjax.engine.streams import Streams, batches, make_streams
from ltjax.errors import UserError, unknown

EVALUATION_BATCH = 256
SELECT = ('best', 'last')


class NonFiniteLossError(UserError):
    """A loss or gradient became NaN or infinite; the last good checkpoint is kept."""


@dataclasses.dataclass
class Training:
    """One run of a recipe on a data set: what the loop needs, and what hooks may ask (`stage.Run`).

    Args:
      data: images, labels and split.
      create: key -> a freshly initialised network.
      recipe: what to train.
      view: (key, images) -> normalised images without augmentation, for evaluation.
      seed: of initialisation, augmentation, order and draws.
      mesh: the devices.
      logbook: takes one row a round.
      checkpoints: take the state after each round.
      select: 'best' keeps the best validated round of the last stage, 'last' the last.
      start_from: workdir of another run whose first stage stands in for this one's; None: train it.
      accumulate: parts of a batch that the encoder takes one after another.
      initial: values in place of the fresh network's, where the run begins: pretrained weights.
    """

    data: DataSet
    create: Callable[[jax.Array], nnx.Module]
    recipe: Recipe
    view: Callable
    seed: int
    mesh: jax.sharding.Mesh
    logbook: Logbook
    checkpoints: Checkpoints
    select: str = 'best'
    start_from: pathlib.Path | None = None
    accumulate: int = 1
    initial: nnx.State | None = None

    def __post_init__(self) -> None:
        train = self.data.parts['train']
        self.train_labels = self.data.labels[train]
        self.num_classes = len(self.data.class_names)
        self._train_images = self.data.images_of('train')
        self._root = jax.random.key(self.seed)
        self._graphdef = nnx.graphdef(nnx.eval_shape(lambda: self.create(self._root)))
        self._init = jax.jit(lambda key: nnx.state(self.create(key)))
        self._check()
        self._feed = Feed(self._train_images, self.train_labels, self.mesh)
        self._forward = make_forward(self._graphdef, self.mesh, self.view)
        self._steps_done = 0
        self._images_seen = 0
        self._steps_in_all = sum(
            stage.rounds * sum(update.steps for update in stage.updates)
            for stage in self.recipe.stages
        )

    def _check(self) -> None:
        """Refuses before the first step what would otherwise end the run in a later stage."""
        if self.select not in SELECT:
            raise unknown('select', self.select, SELECT)
        for stage in self.recipe.stages:
            for update in stage.updates:
                if update.batch_norm not in BATCH_NORM:
                    raise unknown('batch_norm', update.batch_norm, BATCH_NORM)
                if update.sampler is None:
                    continue
                for sampler in (update.sampler, *(s.sampler for s in update.streams.values())):
                    if isinstance(sampler, str) and sampler not in SAMPLERS:
                        raise unknown('sampler', sampler, SAMPLERS)
                name = f'the batch size of {stage.name}/{update.name}'
                sharding.check_batch_size(update.batch_size, self.mesh, name, parts=self.accumulate)

    # What hooks between rounds may ask: see `stage.Run`.

    def key(self, purpose: str, index: int = 0) -> jax.Array:
        return jax.random.fold_in(key_for(self._root, purpose), index)

    def new_model(self, key: jax.Array) -> nnx.State:
        return sharding.place_state(self._init(key), self.mesh)

    def new_optimizer_state(self, update: Update, model: nnx.State) -> Any:
        trainable, _ = nnx.split_state(model, parameter_filter(update.trains), ...)
        return sharding.place_state(update.optimizer.init(trainable), self.mesh)

    def train_features(self, state: TrainState) -> jax.Array:
        return sharding.replicate(self.predict(state, self._train_images)[0], self.mesh)

    # The loop.

    def predict(self, state: TrainState, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Returns features and logits of `images` uint8 [N, H, W, C], in inference mode."""
        return inference.run(
            self._forward, state.model, images, batch_size=EVALUATION_BATCH, mesh=self.mesh
        )

    def run(self) -> tuple[TrainState, dict[str, Any]]:
        """Trains all stages, or what is left of them after the newest checkpoint.

        Returns:
          The selected state, and the progress (stage, round, score) it was saved with.

        Raises:
          NonFiniteLossError: a step's loss or gradient is not finite.
        """
        state = TrainState(self.new_model(self.key('model')), {}, {})
        first_stage, first_round, number, best = 0, 0, 0, None
        saved = self.checkpoints.numbers()
        if saved:
            reached = self.checkpoints.progress(saved[-1])
            first_stage, first_round = reached['stage'], reached['round'] + 1
            number, best = reached['number'] + 1, reached['best']
        elif self.start_from is not None:
            first_stage, state = self._borrow(self.start_from, state)
        elif self.initial is not None:
            model = nnx.merge_state(state.model, self.initial)
            state = state._replace(model=sharding.place_state(model, self.mesh))
        last_stage = len(self.recipe.stages) - 1
        for at, stage in enumerate(self.recipe.stages[first_stage:], first_stage):
            state = self._enter(stage, state)
            if saved and at == first_stage:
                state = self.checkpoints.restore(saved[-1], state)
            start = first_round if at == first_stage else 0
            self._steps_done = self._steps_before(at, start)
            steps = {update.name: self._step(stage, update) for update in stage.updates}
            for round_ in range(start, stage.rounds):
                state, row = self._round(stage, round_, state, steps)
                score, end = row['val_balanced_accuracy'], round_ == stage.rounds - 1
                eligible = at == last_stage and (end or self.select == 'best')
                if eligible and (best is None or score > best['val_balanced_accuracy']):
                    best = {'stage': stage.name, 'round': round_, 'checkpoint': number}
                    best['val_balanced_accuracy'] = score
                progress = {
                    'number': number,
                    'stage': at,
                    'stage_name': stage.name,
                    'round': round_,
                    'stage_end': end,
                    'best': best,
                }
                # The row first: an interruption between the two doubles it, the other order would lose it.
                self.logbook.row(row, step=self._steps_done)
                self.checkpoints.save(_lasting(state), progress, score if eligible else -1.0)
                number += 1
        if best is None:
            raise ValueError('the last stage of a recipe has no round')
        state = _lasting(state)
        if best['checkpoint'] != number - 1:
            state = self.checkpoints.restore(best['checkpoint'], state)
        return state, best

    def _borrow(self, workdir: pathlib.Path, state: TrainState) -> tuple[int, TrainState]:
        """Takes the state of another run at the end of the first stage in place of training it.

        A run of another method may lack this one's extra state; then its model alone is taken.
        """
        name = self.recipe.stages[0].name
        if len(self.recipe.stages) == 1:
            raise UserError('start_from replaces the first stage: this method has no other.')
        with contextlib.closing(Checkpoints(workdir / 'checkpoints')) as theirs:
            for number in theirs.numbers():
                progress = theirs.progress(number)
                if progress['stage_end'] and progress['stage_name'] == name:
                    whole = self._enter(self.recipe.stages[0], state)._replace(optimizers={})
                    try:
                        return 1, theirs.restore(number, whole)
                    except UserError:
                        return 1, theirs.restore(number, state)
        raise UserError(f'{workdir} has no finished stage {name!r}: start from a run that has.')

    def _enter(self, stage: Stage, state: TrainState) -> TrainState:
        """Leaves the stage before: its optimisers and scratch go, those of `stage` come."""
        state = _lasting(state)
        if stage.prepare is not None:
            state = stage.prepare(state, self)
        optimizers = {u.name: self.new_optimizer_state(u, state.model) for u in stage.updates}
        return sharding.place_state(state._replace(optimizers=optimizers), self.mesh)

    def _steps_before(self, number: int, round_: int) -> int:
        lengths = [sum(u.steps for u in s.updates) for s in self.recipe.stages]
        before = sum(
            s.rounds * n for s, n in zip(self.recipe.stages[:number], lengths[:number], strict=True)
        )
        return before + round_ * lengths[number]

    def _step(self, stage: Stage, update: Update) -> tuple[Step, Streams, jax.Array]:
        """Returns the jitted step of an update, its streams and its key."""
        name = f'{stage.name}/{update.name}'
        streams = make_streams(
            update, self.train_labels, num_classes=self.num_classes, seed=self.seed, name=name
        )
        step = make_step(update, self._graphdef, self.mesh, accumulate=self.accumulate)
        return step, streams, self.key(name)

    def _round(
        self, stage: Stage, round_: int, state: TrainState, steps: Mapping[str, tuple]
    ) -> tuple[TrainState, dict[str, Any]]:
        """Runs one round of every update of a stage, then validates."""
        started = time.monotonic()
        images_before = self._images_seen
        if stage.before_round is not None:
            state = sharding.place_state(stage.before_round(state, self, round_), self.mesh)
        row: dict[str, Any] = {'stage': stage.name, 'round': round_}
        for update in stage.updates:
            state, losses = self._update(stage, update, round_, state, *steps[update.name])
            row |= losses
        seconds = time.monotonic() - started
        val = self.data.parts['val']
        _, logits = self.predict(state, self.data.images_of('val'))
        if not np.isfinite(logits).all():
            raise NonFiniteLossError(
                f'the network gives non-finite logits after round {round_} of stage {stage.name!r}: '
                'lower the learning rate or set a clip_norm; the last good checkpoint is kept.'
            )
        with warnings.catch_warnings():
            # A small validation split may lack a class, which then does not count.
            warnings.filterwarnings('ignore', 'y_pred contains classes not in y_true')
            score = balanced_accuracy_score(self.data.labels[val], logits.argmax(axis=1))
        row['val_balanced_accuracy'] = float(score)
        row['images_per_second'] = (self._images_seen - images_before) / max(seconds, 1e-9)
        row['seconds'] = seconds
        return state, row

    def _update(
        self,
        stage: Stage,
        update: Update,
        round_: int,
        state: TrainState,
        step_fn: Step,
        streams: Streams,
        key: jax.Array,
    ) -> tuple[TrainState, dict[str, float]]:
        """Runs the steps of one update of one round; returns the mean of its logged values.

        Metrics are read one step late, so that the host prepares a step while the device does the one before.
        """
        sums: dict[str, float] = {}
        late: tuple[int, dict[str, jax.Array]] | None = None
        start = round_ * update.steps
        for step, batch in enumerate(batches(update, streams, self._feed, start), start):
            state, metrics = step_fn(state, batch, key, np.int32(step))
            if late is not None:
                self._read(stage, update, *late, sums)
            late = (step, metrics)
            self._steps_done += 1
            self._images_seen += update.batch_size if update.views else 0
        if late is not None:
            self._read(stage, update, *late, sums)
        prefix = '' if len(stage.updates) == 1 else f'{update.name}_'
        values = {f'{prefix}{name}': value / update.steps for name, value in sums.items()}
        return state, {'loss': values[f'{prefix}loss']} | values

    def _read(
        self,
        stage: Stage,
        update: Update,
        step: int,
        metrics: Mapping[str, jax.Array],
        sums: dict[str, float],
    ) -> None:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        strange = [name for name, value in values.items() if not math.isfinite(value)]
        if strange:
            raise NonFiniteLossError(
                f'{strange[0]} is {values[strange[0]]} at step {step} of {update.name!r} in stage {stage.name!r}: '
                'lower the learning rate or set a clip_norm; the last good checkpoint is kept.'
            )
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
        self.logbook.progress(
            f'{stage.name}/{update.name}',
            self._steps_done,
            self._steps_in_all,
            values['loss'],
            self._images_seen,
        )


def _lasting(state: TrainState) -> TrainState:
    """Returns `state` without `extra['round']`, which `before_round` makes anew in every round."""
    extra = {name: value for name, value in state.extra.items() if name != 'round'}
    return state._replace(extra=extra)
