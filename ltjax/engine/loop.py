"""The one training loop: the stages of a recipe, round by round, each round validated and saved."""

import dataclasses
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
from ltjax.data.pipeline import Feed
from ltjax.data.reading import Images
from ltjax.engine import inference
from ltjax.engine.checkpoint import Checkpoints, borrow
from ltjax.engine.checks import check_recipe
from ltjax.engine.logbook import Logbook
from ltjax.engine.safeguards import Safeguards, require_finite
from ltjax.engine.stage import Recipe, Stage, Update
from ltjax.engine.state import TrainState, parameter_filter
from ltjax.engine.step import Step, key_for, make_forward, make_step
from ltjax.engine.step_metrics import RoundProgress, StepMetrics
from ltjax.engine.streams import Streams, batches, make_streams
from ltjax.errors import Preempted, unknown

EVALUATION_BATCH = 256

# Of an update that reads no images, such as LMD's M-step, whose steps take less time than their calls.
STEPS_PER_CALL = 50
SELECT = ('best', 'last')


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
      safeguards: when to save inside a round, when to stop, what to do with NaN.
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
    safeguards: Safeguards = dataclasses.field(default_factory=Safeguards)

    def __post_init__(self) -> None:
        train = self.data.parts['train']
        self.train_labels = self.data.labels[train]
        self._train_ids = self.data.ids[train]
        self.num_classes = len(self.data.class_names)
        self._train_images = self.data.images_of('train')
        self._root = jax.random.key(self.seed)
        self._graphdef = nnx.graphdef(nnx.eval_shape(lambda: self.create(self._root)))
        self._init = jax.jit(lambda key: nnx.state(self.create(key)))
        if self.select not in SELECT:
            raise unknown('select', self.select, SELECT)
        check_recipe(self.recipe, self.mesh, accumulate=self.accumulate)
        self._feed = Feed(self._train_images, self.train_labels, self.mesh)
        self._forward = make_forward(self._graphdef, self.mesh, self.view)
        self._steps_done = 0
        self._images_seen = 0
        self._rows: list[dict[str, Any]] = []
        self._best: dict[str, Any] | None = None
        self._compiled: set[str] = set()
        self._round_started = 0.0
        self._stop = False
        self._steps_in_all = self.recipe.steps_before(len(self.recipe.stages))

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
          NonFiniteLossError: a step's loss, gradient or state is not finite.
          Preempted: the run was asked to end, and is saved.
        """
        self.safeguards.interruption.defer()
        try:
            state = self._stages()
        finally:
            self.safeguards.interruption.defer(False)
        if self._best is None:
            raise ValueError('the last stage of a recipe has no round')
        self.checkpoints.wait()
        if self._best['checkpoint'] != self._steps_done:
            state = self.checkpoints.restore(self._best['checkpoint'], state)
        return state, self._best

    def _stages(self) -> TrainState:
        state = TrainState(self.new_model(self.key('model')), {}, {})
        first_stage, first_round, inside, saved = 0, 0, None, None
        if self.checkpoints.numbers():
            saved = self.checkpoints.numbers()[-1]
            reached = self.checkpoints.progress(saved)
            first_stage, first_round = reached['stage'], reached['round']
            self._rows, self._best = reached['rows'], reached['best']
            self.safeguards.skipped = reached['skipped']
            if reached['inside'] is None:
                first_round += 1
            else:
                inside = RoundProgress(**reached['inside'])
        elif self.start_from is not None:
            whole = self._enter(self.recipe.stages[0], state)._replace(optimizers={})
            first_stage, state = 1, borrow(self.start_from, self.recipe, whole, state)
        elif self.initial is not None:
            model = nnx.merge_state(state.model, self.initial)
            state = state._replace(model=sharding.place_state(model, self.mesh))
        self.logbook.begin(self._rows, step=saved or 0)
        for at, stage in enumerate(self.recipe.stages[first_stage:], first_stage):
            state = self._enter(stage, state)
            start = first_round if at == first_stage else 0
            self._steps_done = self.recipe.steps_before(at, start)
            if saved is not None and at == first_stage:
                self._steps_done = saved
                state = self.checkpoints.restore(saved, state)
                scratch = self.checkpoints.scratch(saved, sharding.replicated(self.mesh))
                if scratch:
                    scratch = sharding.place_state(scratch, self.mesh)
                    state = state._replace(extra=state.extra | {'round': scratch})
            steps = {update.name: self._step(stage, update) for update in stage.updates}
            for round_ in range(start, stage.rounds):
                state = self._round(at, round_, state, steps, inside)
                inside = None
        return _lasting(state)

    def _save(
        self,
        state: TrainState,
        at: int,
        round_: int,
        score: float,
        inside: RoundProgress | None = None,
    ) -> None:
        """Saves the state after a round of the stage in place `at`, or inside it; ends the run if it was asked to."""
        self.safeguards.check_present()
        stage = self.recipe.stages[at]
        require_finite(state, f'after step {self._steps_done} of the run, in stage {stage.name!r}')
        progress = {
            'number': self._steps_done,
            'stage': at,
            'stage_name': stage.name,
            'round': round_,
            'stage_end': inside is None and round_ == stage.rounds - 1,
            'best': self._best,
            'rows': list(self._rows),
            'skipped': self.safeguards.skipped,
            'inside': None if inside is None else dataclasses.asdict(inside),
            'provenance': self.safeguards.provenance,
        }
        scratch = None if inside is None else state.extra.get('round')
        self.checkpoints.save(_lasting(state), progress, score, scratch)
        self.safeguards.saved()
        if self._stop:
            self.checkpoints.wait()
            raise Preempted(
                f'{self.safeguards.interruption.signal or "SIGTERM"}: saved at step {self._steps_done} of '
                f'{self._steps_in_all}; the same command goes on.'
            )

    def _enter(self, stage: Stage, state: TrainState) -> TrainState:
        """Leaves the stage before: its optimisers and scratch go, those of `stage` come."""
        state = _lasting(state)
        if stage.prepare is not None:
            state = stage.prepare(state, self)
        optimizers = {u.name: self.new_optimizer_state(u, state.model) for u in stage.updates}
        return sharding.place_state(state._replace(optimizers=optimizers), self.mesh)

    def _step(self, stage: Stage, update: Update) -> tuple[Step, Streams, jax.Array]:
        """Returns the jitted step of an update, its streams and its key."""
        name = f'{stage.name}/{update.name}'
        streams = make_streams(
            update, self.train_labels, num_classes=self.num_classes, seed=self.seed, name=name
        )
        step = make_step(
            update,
            self._graphdef,
            self.mesh,
            accumulate=self.accumulate,
            skip_nonfinite=self.safeguards.on_nonfinite == 'skip',
        )
        return step, streams, self.key(name)

    def _round(
        self,
        at: int,
        round_: int,
        state: TrainState,
        steps: Mapping[str, tuple],
        inside: RoundProgress | None,
    ) -> TrainState:
        """Runs one round of every update of a stage, or what is left of it; validates, logs and saves."""
        stage = self.recipe.stages[at]
        watchdog = self.safeguards.watchdog
        watchdog.alive(f'the pass before round {round_} of {stage.name}')
        self._round_started = time.monotonic() - (inside.seconds if inside else 0.0)
        if inside is None:
            inside = RoundProgress(row={'stage': stage.name, 'round': round_})
            if stage.before_round is not None:
                state = sharding.place_state(stage.before_round(state, self, round_), self.mesh)
                require_finite(state.extra, f'before round {round_} of stage {stage.name!r}')
        for update in stage.updates[inside.update :]:
            state = self._update(at, update, round_, state, inside, *steps[update.name])
        row = inside.row
        seconds = time.monotonic() - self._round_started
        watchdog.alive(f'the validation of round {round_} of {stage.name}')
        val = self.data.parts['val']
        _, logits = self.predict(state, self.data.images_of('val'))
        score = _score(
            self.data.labels[val], logits, f'after round {round_} of stage {stage.name!r}'
        )
        row['val_balanced_accuracy'] = score
        row['images_per_second'] = inside.images / max(seconds, 1e-9)
        row['seconds'] = seconds
        last = at == len(self.recipe.stages) - 1
        eligible = last and (round_ == stage.rounds - 1 or self.select == 'best')
        if eligible and (self._best is None or score > self._best['val_balanced_accuracy']):
            self._best = {'stage': stage.name, 'round': round_, 'checkpoint': self._steps_done}
            self._best['val_balanced_accuracy'] = score
        self.safeguards.check_present()
        self.logbook.row(row, step=self._steps_done)
        self._rows.append(row | {'step': self._steps_done})
        watchdog.alive(f'saving round {round_} of {stage.name}')
        self._save(state, at, round_, score if eligible else -1.0)
        return state

    def _update(
        self,
        at: int,
        update: Update,
        round_: int,
        state: TrainState,
        inside: RoundProgress,
        step_fn: Step,
        streams: Streams,
        key: jax.Array,
    ) -> TrainState:
        """Runs the steps of one update that this round still has; `inside` then has the means of its logged values."""
        stage, safeguards = self.recipe.stages[at], self.safeguards
        name = f'{stage.name}/{update.name}'
        meter = StepMetrics(
            inside, stage.name, update.name, streams, self._train_ids, safeguards, self.logbook
        )
        first, end = round_ * update.steps + inside.step, (round_ + 1) * update.steps
        feed, step = batches(update, streams, self._feed, first, end), first
        while step < end:
            count = 1 if streams else min(STEPS_PER_CALL, end - step, safeguards.steps_left())
            batch = next(feed) if streams else {}
            safeguards.watchdog.alive(f'step {step} of {name}', compiles=name not in self._compiled)
            state, metrics = step_fn(state, batch, key, np.int32(step), count=count)
            meter.add(step, metrics)
            if step > first:
                self._compiled.add(name)  # its first step was read
                self.logbook.progress(
                    name, self._steps_done, self._steps_in_all, meter.loss, self._images_seen
                )
            step += count
            self._steps_done += count
            inside.step += count
            images = update.batch_size if update.views else 0
            inside.images += images
            self._images_seen += images
            self._stop = safeguards.stop(self._steps_done, count)
            if (self._stop or safeguards.due()) and step < end:
                meter.read()
                inside.seconds = time.monotonic() - self._round_started
                self._save(state, at, round_, -1.0, inside)
        prefix = '' if len(stage.updates) == 1 else f'{update.name}_'
        inside.next_update(meter.means(prefix))
        return state


def _score(labels: np.ndarray, logits: np.ndarray, when: str) -> float:
    """Returns the balanced accuracy by which rounds are compared."""
    require_finite(logits, when, name='logits of the validation')
    with warnings.catch_warnings():
        # A small validation split may lack a class, which then does not count.
        warnings.filterwarnings('ignore', 'y_pred contains classes not in y_true')
        return float(balanced_accuracy_score(labels, logits.argmax(axis=1)))


def _lasting(state: TrainState) -> TrainState:
    """Returns `state` without `extra['round']`, which `before_round` makes anew in every round."""
    extra = {name: value for name, value in state.extra.items() if name != 'round'}
    return state._replace(extra=extra)
