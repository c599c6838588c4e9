"""What a run says while it runs: metrics.jsonl, TensorBoard event files, and one line on a terminal."""

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

import jax
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from ltjax import files


class Logbook:
    """Writes one row a round to metrics.jsonl and TensorBoard; shows progress on a terminal only.

    Of several processes only the first writes. A row is on its way to the disk when `row` returns: TensorBoard's own
    writer has a thread, which a full disk ends in silence.

    Args:
      workdir: of the run.
      stream: where progress is shown, if it is a terminal.
      on_row: is called with every row that is written.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        *,
        stream: TextIO = sys.stderr,
        on_row: Callable[[dict[str, Any]], object] | None = None,
    ) -> None:
        self._workdir = workdir
        self._writes = jax.process_index() == 0
        self._file: TextIO | None = None
        self._events: EventsWriter | None = None
        self._stream = stream
        self._on_row = on_row
        self._live = stream.isatty() and self._writes
        self._started = time.monotonic()
        self._last_shown = 0.0
        self._first_step: int | None = None  # of this process: a resumed run does not begin at 0

    def begin(self, rows: Sequence[Mapping[str, Any]], *, step: int) -> None:
        """Makes `rows`, and nothing else, what is written so far, whatever an interrupted process left behind.

        Args:
          rows: of the checkpoint that the run goes on from.
          step: its gradient steps; TensorBoard forgets what it was told of later ones.
        """
        if not self._writes:
            return
        path = self._workdir / 'metrics.jsonl'
        files.write_text(path, ''.join(json.dumps(row) + '\n' for row in rows))
        self._file = path.open('a', encoding='utf-8')
        # Absolute: tensorboardX takes what is before a colon for the protocol of a cloud's storage.
        events = self._workdir.absolute() / 'tensorboard'
        events.mkdir(exist_ok=True)
        self._events = EventsWriter(str(events / 'events'), f'.{os.getpid()}')
        start = SessionLog(status=SessionLog.START)
        self._events.write_event(Event(step=step + 1, wall_time=time.time(), session_log=start))

    def row(self, values: Mapping[str, Any], *, step: int) -> None:
        """Writes one row; `values['stage']` names the curves in TensorBoard.

        Args:
          values: JSON values.
          step: gradient steps since the beginning of the run.
        """
        if self._file is not None and self._events is not None:
            self._file.write(json.dumps({**values, 'step': step}) + '\n')
            self._file.flush()
            for name, value in values.items():
                if isinstance(value, float):
                    summary = scalar(f'{values["stage"]}/{name}', value)
                    event = Event(step=step, wall_time=time.time(), summary=summary)
                    self._events.write_event(event)
            self._events.flush()
        if self._live:
            shown = [f'loss {values["loss"]:.4f}'] if 'loss' in values else []
            if 'val_balanced_accuracy' in values:
                shown += [f'validation balanced accuracy {values["val_balanced_accuracy"]:.1%}']
            self._print(f'{values["stage"]} round {values["round"]}: {", ".join(shown)}', end='\n')
        if self._on_row is not None and self._writes:
            self._on_row({**values, 'step': step})

    def incident(self, values: Mapping[str, Any]) -> None:
        """Writes nonfinite.json: the newest batch whose loss, gradient or state was not finite."""
        if self._writes:
            files.write_json(self._workdir / 'nonfinite.json', dict(values))

    def progress(self, stage: str, step: int, steps: int, loss: float, images: int) -> None:
        """Shows where the run stands, a few times a second at most; nothing when not on a terminal.

        Args:
          stage: its name.
          step: gradient steps done, of the whole run.
          steps: of the whole run.
          loss: of the step before.
          images: seen since this process began.
        """
        now = time.monotonic()
        if self._first_step is None:
            self._first_step = step - 1
        if not self._live or now - self._last_shown < 0.2:
            return
        self._last_shown = now
        seconds = now - self._started
        left = seconds / max(step - self._first_step, 1) * (steps - step)
        rate = images / max(seconds, 1e-9)
        self._print(
            f'{stage} step {step}/{steps}, loss {loss:.4f}, {rate:.0f} images/s, {left:.0f} s left',
            end='',
        )

    def _print(self, text: str, *, end: str) -> None:
        self._stream.write(f'\r\x1b[K{text}{end}')
        self._stream.flush()

    def close(self) -> None:
        """Closes the files and clears the progress line."""
        if self._live:
            self._print('', end='')
        with contextlib.suppress(OSError):  # `row` has raised it before
            for open_file in (self._file, self._events):
                if open_file is not None:
                    open_file.close()
