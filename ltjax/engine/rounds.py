"""The rounds of a stage: every update's steps, then validation, log and checkpoint."""

import dataclasses
import time
import warnings
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax import sharding
from ltjax.engine.progress import RoundProgress
from ltjax.engine.safeguards import require_finite
from ltjax.engine.stage import Stage, Update
from ltjax.engine.state import TrainState
from ltjax.engine.step import Step, make_step
from ltjax.engine.step_metrics import StepMetrics
from ltjax.engine.streams import (
    Streams,
    batches,
    make_streams,
    positions,
    reads_state,
    sees_images,
)
from ltjax.engine.training import Training
from ltjax.errors import Preempted

# At most: a step may take less time than its call.
STEPS_PER_CALL = 50

# Of a call, about: a signal is heard, and a checkpoint made, when it ends.
_SECONDS_PER_CALL = 1.0


class CallLength:
    """How many steps the next call makes; the numbers of a step do not depend on it.

    Args:
      most: steps that a call can make.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        # Several processes make the same calls; their clocks differ.
        self._by_clock = jax.process_count() == 1
        self.now = 1 if self._by_clock else most

    def took(self, seconds: float) -> None:
        """Says how long a call and the host's work for it took."""
        if self._by_clock and seconds < _SECONDS_PER_CALL / 2:
            self.now = min(2 * self.now, self.most)
        elif self._by_clock and seconds > _SECONDS_PER_CALL:
            self.now = max(self.now // 2, 1)


class Runner(NamedTuple):
    """An update, ready to run.

    Attributes:
      update: what it does.
      name: of stage and update.
      step: the jitted function.
      streams: what its steps read.
      key: of all its steps.
      calls: how many steps a call of `step` makes.
    """

    update: Update
    name: str
    step: Step
    streams: Streams
    key: jax.Array
    calls: CallLength


class Rounds:
    """The rounds of the stage in place `at` of a training's recipe."""

    def __init__(self, training: Training, at: int) -> None:
        self._training, self._at = training, at
        self._stage: Stage = training.recipe.stages[at]
        self._last = at == len(training.recipe.stages) - 1
        self._runners = [self.runner(update) for update in self._stage.updates]
        self._compiled: set[str] = set()
        self._started = 0.0
        self._stop = False

    def runner(self, update: Update) -> Runner:
        """Returns an update of the stage, ready to run."""
        training, name = self._training, f'{self._stage.name}/{update.name}'
        per_call = self._steps_per_call(update)
        step = make_step(
            update,
            training.graphdef,
            training.mesh,
            accumulate=training.accumulate,
            skip_nonfinite=training.safeguards.on_nonfinite == 'skip',
            per_call=per_call,
        )
        streams = self._streams(update, name)
        return Runner(update, name, step, streams, training.key(name), CallLength(per_call))

    def _steps_per_call(self, update: Update) -> int:
        """Many where all that a step reads lies on the devices.

        But one on CPUs of several processes: a slow network's calls could not be cut short by the clock.
        """
        training = self._training
        on_cpu = training.mesh.devices.flat[0].platform == 'cpu'
        single = training.feed.resident[0] is None or (on_cpu and jax.process_count() > 1)
        return 1 if sees_images(update) and single else STEPS_PER_CALL

    def _streams(self, update: Update, name: str, draw: np.ndarray | None = None) -> Streams:
        training = self._training
        return make_streams(
            update,
            training.train_labels,
            num_classes=training.num_classes,
            seed=training.seed,
            name=name,
            draw=draw,
        )

    def _draw_by(self, state: TrainState) -> None:
        """Makes the streams that are drawn by `state`, which is that before the round's first step or inside it."""
        if not any(reads_state(runner.update) for runner in self._runners):
            return
        draw = np.asarray(sharding.replicate(state.extra['draw'], self._training.mesh))
        if draw.shape != self._training.train_labels.shape:
            raise ValueError(
                f"extra['draw'] is of shape {draw.shape}: it has a value a training image"
            )
        self._runners = [
            runner._replace(streams=self._streams(runner.update, runner.name, draw))
            if reads_state(runner.update)
            else runner
            for runner in self._runners
        ]

    def run(self, round_: int, state: TrainState, inside: RoundProgress | None) -> TrainState:
        """Runs one round, or what is left of it; validates, logs and saves.

        Args:
          round_: its place in the stage.
          state: before it, or inside it.
          inside: how far it has come; None: it begins.
        """
        training, stage = self._training, self._stage
        watchdog = training.safeguards.watchdog
        watchdog.alive(f'the pass before round {round_} of {stage.name}')
        self._started = time.monotonic() - (inside.seconds if inside else 0.0)
        if inside is None:
            row = {'stage': stage.name, 'round': round_} | dict(
                stage.told[round_] if stage.told else {}
            )
            inside = RoundProgress(row=row)
            if stage.before_round is not None:
                state = stage.before_round(state, training, round_)
                state = sharding.place_state(state, training.mesh)
                require_finite(state.extra, f'before round {round_} of stage {stage.name!r}')
        self._draw_by(state)
        for runner in self._runners[inside.update :]:
            state = self._update(runner, round_, state, inside)
        if not self._runners:
            training.progress.steps_done += 1
            self._stop = training.safeguards.stop(training.progress.steps_done)
        seconds = time.monotonic() - self._started
        watchdog.alive(f'the validation of round {round_} of {stage.name}')
        score = self._validate(round_, state)
        row = inside.row
        if score is not None:
            row['val_balanced_accuracy'] = score
        row['images_per_second'] = inside.images / max(seconds, 1e-9)
        row['seconds'] = seconds
        best = self._note_best(round_, score)
        training.safeguards.check_present()
        training.logbook.row(row, step=training.progress.steps_done)
        training.progress.rows.append(row | {'step': training.progress.steps_done})
        watchdog.alive(f'saving round {round_} of {stage.name}')
        self._save(round_, state, (score or 0.0) if best else -1.0)
        return state

    def _update(
        self, runner: Runner, round_: int, state: TrainState, inside: RoundProgress
    ) -> TrainState:
        """Runs the steps of one update that this round still has; `inside` then has the means of its logged values."""
        training, update = self._training, runner.update
        progress, safeguards = training.progress, training.safeguards
        metrics = StepMetrics(
            inside,
            self._stage.name,
            update.name,
            runner.streams,
            training.train_ids,
            safeguards,
            training.logbook,
        )
        first, end = round_ * update.steps + inside.step, (round_ + 1) * update.steps
        feed, step = batches(update, runner.streams, training.feed, first, end), first
        while step < end:
            began, calls = time.monotonic(), runner.calls
            count = min(calls.now, end - step, safeguards.steps_left())
            compiles = runner.name not in self._compiled
            safeguards.watchdog.alive(f'step {step} of {runner.name}', compiles=compiles)
            if calls.most == 1:
                state, values = runner.step(state, next(feed), runner.key, np.int32(step))
            else:
                rows = positions(runner.streams, training.mesh, step, count, calls.most)
                data = training.feed.resident, rows
                at, many = np.int32(step), np.int32(count)
                state, values = runner.step(state, data, runner.key, at, many)
            metrics.add(step, values, count)
            calls.took(time.monotonic() - began)
            if step > first:
                self._compiled.add(runner.name)  # its first step was read
                training.logbook.progress(
                    runner.name,
                    progress.steps_done,
                    progress.steps,
                    metrics.loss,
                    progress.images_seen,
                )
            step += count
            progress.steps_done += count
            inside.step += count
            images = count * update.batch_size if update.views else 0
            inside.images += images
            progress.images_seen += images
            self._stop = safeguards.stop(progress.steps_done, count)
            if (self._stop or safeguards.due()) and step < end:
                metrics.read()
                inside.seconds = time.monotonic() - self._started
                self._save(round_, state, -1.0, inside)
        prefix = '' if len(self._runners) == 1 else f'{update.name}_'
        inside.next_update(metrics.means(prefix))
        return state

    def _validate(self, round_: int, state: TrainState) -> float | None:
        """Returns the balanced accuracy by which rounds are compared; None where nothing is held out for it."""
        from sklearn.metrics import balanced_accuracy_score

        data = self._training.data
        labels = data.labels[data.parts['val']]
        if len(labels) == 0:
            return None
        _, logits = self._training.predict(state, data.images_of('val'))
        when = f'after round {round_} of stage {self._stage.name!r}'
        require_finite(logits, when, name='logits of the validation')
        with warnings.catch_warnings():
            # A small validation split may lack a class, which then does not count.
            warnings.filterwarnings('ignore', 'y_pred contains classes not in y_true')
            return float(balanced_accuracy_score(labels, logits.argmax(axis=1)))

    def _note_best(self, round_: int, score: float | None) -> bool:
        """Notes the best round so far; tells whether this one could be it."""
        training = self._training
        eligible = self._last and (round_ == self._stage.rounds - 1 or training.select == 'best')
        best = training.progress.best
        if eligible and (best is None or (score or 0.0) > best['val_balanced_accuracy']):
            training.progress.best = {
                'stage': self._stage.name,
                'round': round_,
                'checkpoint': training.progress.steps_done,
            } | ({} if score is None else {'val_balanced_accuracy': score})
        return eligible

    def _save(
        self, round_: int, state: TrainState, score: float, inside: RoundProgress | None = None
    ) -> None:
        """Saves the state after a round, or inside it; ends the run if it was asked to."""
        training, stage = self._training, self._stage
        progress, safeguards = training.progress, training.safeguards
        safeguards.check_present()
        require_finite(
            state, f'after step {progress.steps_done} of the run, in stage {stage.name!r}'
        )
        values: dict[str, Any] = {
            'number': progress.steps_done,
            'stage': self._at,
            'stage_name': stage.name,
            'round': round_,
            'stage_end': inside is None and round_ == stage.rounds - 1,
            'best': progress.best,
            'rows': list(progress.rows),
            'skipped': safeguards.skipped,
            'inside': None if inside is None else dataclasses.asdict(inside),
            'provenance': safeguards.provenance,
        }
        scratch = None if inside is None else state.extra.get('round')
        training.checkpoints.save(lasting(state), values, score, scratch)
        safeguards.saved()
        if self._stop:
            training.checkpoints.wait()
            raise Preempted(
                f'{safeguards.interruption.signal or "SIGTERM"}: saved at step {progress.steps_done} of '
                f'{progress.steps}; the same command goes on.'
            )


def lasting(state: TrainState) -> TrainState:
    """Returns `state` without `extra['round']`, which `before_round` makes anew in every round."""
    extra = {name: value for name, value in state.extra.items() if name != 'round'}
    return state._replace(extra=extra)
