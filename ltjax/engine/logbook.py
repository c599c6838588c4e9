"""What a run says while it runs: metrics.jsonl, TensorBoard event files, and one line on a terminal."""

import json
import pathlib
import sys
import time
from typing import Any, TextIO

from tensorboardX import SummaryWriter


class Logbook:
    """Writes one row a round to metrics.jsonl and TensorBoard; shows progress on a terminal only."""

    def __init__(self, workdir: pathlib.Path, *, stream: TextIO = sys.stderr) -> None:
        self._file = (workdir / 'metrics.jsonl').open('a', encoding='utf-8')
        self._events = SummaryWriter(str(workdir / 'tensorboard'))
        self._stream = stream
        self._live = stream.isatty()
        self._started = time.monotonic()
        self._last_shown = 0.0
        self._first_step: int | None = None  # of this process: a resumed run does not begin at 0

    def row(self, values: dict[str, Any], *, step: int) -> None:
        """Writes one row; `values['stage']` names the curves in TensorBoard.

        Args:
          values: JSON values.
          step: gradient steps since the beginning of the run.
        """
        self._file.write(json.dumps(values | {'step': step}) + '\n')
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, float):
                self._events.add_scalar(f'{values["stage"]}/{name}', value, step)
        if self._live:
            score = values.get('val_balanced_accuracy')
            shown = f'loss {values["loss"]:.4f}, validation balanced accuracy {score:.1%}'
            self._print(f'{values["stage"]} round {values["round"]}: {shown}', end='\n')

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
        self._file.close()
        self._events.close()
