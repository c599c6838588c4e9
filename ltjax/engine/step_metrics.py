"""What is logged of the steps of a round: read one step late, summed, and watched for NaN.

Not clu.metrics: its collections sum on the device, and would have to be read at once to see a NaN.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import numpy as np

from ltjax.engine.logbook import Logbook
from ltjax.engine.progress import RoundProgress
from ltjax.engine.safeguards import NonFiniteLossError, Safeguards
from ltjax.engine.streams import Streams

# Of the ids of a bad batch in the message; nonfinite.json has them all.
_SHOWN = 4


@dataclasses.dataclass
class StepMetrics:
    """Reads what the steps of one update return, one step late: the host prepares one while the device does another."""

    inside: RoundProgress  # takes the sums
    stage: str  # name of the stage
    update: str  # name of the update
    streams: Streams  # what the steps read
    ids: np.ndarray  # of the training images, by position
    safeguards: Safeguards  # say what becomes of NaN
    logbook: Logbook  # is told of a bad batch

    def __post_init__(self) -> None:
        self._late: tuple[int, int, Mapping[str, jax.Array]] | None = None
        self.loss = math.nan

    def add(self, step: int, metrics: Mapping[str, jax.Array], count: int = 1) -> None:
        """Takes what a call returned for `step`, or for `count` from it on, and reads the call before.

        Raises:
          NonFiniteLossError: that one's values are not finite, or too many were not.
        """
        self.read()
        self._late = (step, count, metrics)

    def read(self) -> None:
        """Reads the newest call too; raises as `add`."""
        if self._late is None:
            return
        (step, count, metrics), self._late = self._late, None
        arrays = {name: np.atleast_1d(value) for name, value in jax.device_get(metrics).items()}
        for at in range(count):
            self._take(step + at, {name: float(array[at]) for name, array in arrays.items()})

    def _take(self, step: int, values: dict[str, float]) -> None:
        skipped = values.pop('skipped', 0.0)
        strange = [name for name, value in values.items() if not math.isfinite(value)]
        if strange or skipped:
            self._report(step, values, strange[0] if strange else 'the new state', bool(skipped))
            return
        for name, value in values.items():
            self.inside.sums[name] = self.inside.sums.get(name, 0.0) + value
        self.inside.counted += 1
        self.loss = values['loss']

    def means(self, prefix: str) -> dict[str, float]:
        """Returns the means over the steps of this round, each name with `prefix`; raises as `add`."""
        self.read()
        counted = self.inside.counted
        if not counted:
            raise NonFiniteLossError(
                f'every step of {self.update!r} in a round of stage {self.stage!r} was skipped.'
            )
        values = {f'{prefix}{name}': total / counted for name, total in self.inside.sums.items()}
        return {'loss': values[f'{prefix}loss']} | values

    def _report(self, step: int, values: dict[str, float], what: str, skipped: bool) -> None:
        batch = {
            name or 'own': self.ids[stream[step]].tolist() for name, stream in self.streams.items()
        }
        incident = {'stage': self.stage, 'update': self.update, 'step': step, 'skipped': skipped}
        self.logbook.incident(
            incident | {'terms': {k: repr(v) for k, v in values.items()}, 'ids': batch}
        )
        where = f'at step {step} of {self.update!r} in stage {self.stage!r}'
        if skipped and self.safeguards.skip():
            return
        terms = ', '.join(f'{name} {value:.4g}' for name, value in values.items())
        ids = [str(id_) for stream in batch.values() for id_ in stream]
        images = f'; images {", ".join(ids[:_SHOWN])} ..., all in nonfinite.json' if ids else ''
        remedy = 'lower the learning rate, set a clip_norm or try --config.on_nonfinite=skip'
        if skipped:
            remedy = (
                f'{self.safeguards.max_skipped} steps were skipped already (--config.max_skipped)'
            )
        raise NonFiniteLossError(
            f'{what} is {values.get(what, "not finite")} {where} ({terms}{images}): {remedy}; '
            'the last good checkpoint is kept.'
        )
