"""What a training does against losing work: when it saves inside a round, when it stops, what it does with NaN."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from ltjax.engine.interrupt import Interruption
from ltjax.engine.state import flatten
from ltjax.engine.watchdog import Watchdog
from ltjax.errors import UserError

ON_NONFINITE = ('stop', 'skip')

# Processes agree by the clock of the first one, which costs a message; so not at every step.
_STEPS_BETWEEN_CLOCKS = 50


class NonFiniteLossError(UserError):
    """A loss, gradient or statistic became NaN or infinite; the last good checkpoint is kept."""


@dataclasses.dataclass
class Safeguards:
    """Nothing here changes what a run computes, as long as nothing goes wrong.

    Args:
      every_steps: steps between checkpoints inside a round; 0: none.
      every_minutes: minutes between checkpoints inside a round; 0: none.
      on_nonfinite: 'stop', or 'skip': a step whose loss, gradient or new state is not finite leaves the state alone.
      max_skipped: steps of a run that may be skipped.
      provenance: what a checkpoint says of the run: config, versions, source, devices.
      interruption: what asks the run to end.
      watchdog: is told of every step.
    """

    every_steps: int = 0
    every_minutes: float = 0.0
    on_nonfinite: str = 'stop'
    max_skipped: int = 10
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    interruption: Interruption = dataclasses.field(default_factory=Interruption)
    watchdog: Watchdog = dataclasses.field(default_factory=lambda: Watchdog(0.0))

    def __post_init__(self) -> None:
        self.saved()

    def saved(self) -> None:
        """Says that a checkpoint was just saved."""
        self._steps, self._since = 0, time.monotonic()

    def stop(self, step: int) -> bool:
        """Tells whether the run was asked to end; to be called once after each step."""
        self._steps += 1
        return self.interruption.reached(step)

    def due(self) -> bool:
        """Tells whether a checkpoint inside the round is due, by steps or by the clock."""
        if self.every_steps and self._steps >= self.every_steps:
            return True
        if not self.every_minutes:
            return False
        late = time.monotonic() - self._since >= 60 * self.every_minutes
        if jax.process_count() == 1:
            return late
        if self._steps % _STEPS_BETWEEN_CLOCKS:
            return False
        return bool(multihost_utils.broadcast_one_to_all(np.int32(late)))


def nonfinite(tree: Any) -> list[str]:
    """Returns the paths of the leaves of `tree` that hold a NaN or an infinity."""
    leaves = {k: v for k, v in flatten(tree).items() if jnp.issubdtype(v.dtype, jnp.inexact)}
    finite = jax.device_get(_all_finite(leaves))
    return [name for name, good in finite.items() if not good]


@jax.jit
def _all_finite(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.isfinite(leaf).all() for name, leaf in leaves.items()}
