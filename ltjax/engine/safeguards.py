"""What a training does against losing work: when it saves inside a round, when it stops, what it does with NaN."""

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from ltjax.engine.preemption import Interruption
from ltjax.engine.state import flatten
from ltjax.engine.watchdog import Watchdog
from ltjax.errors import UserError, unknown

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
      check_present: raises UserError if the workdir has vanished; called before something is written.
      interruption: what asks the run to end.
      watchdog: is told of every step.
    """

    every_steps: int = 0
    every_minutes: float = 0.0
    on_nonfinite: str = 'stop'
    max_skipped: int = 10
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    check_present: Callable[[], None] = lambda: None
    interruption: Interruption = dataclasses.field(default_factory=Interruption)
    watchdog: Watchdog = dataclasses.field(default_factory=lambda: Watchdog(0.0))

    def __post_init__(self) -> None:
        if self.on_nonfinite not in ON_NONFINITE:
            raise unknown('on_nonfinite', self.on_nonfinite, ON_NONFINITE)
        self.skipped = 0
        self.saved()

    def skip(self) -> bool:
        """Counts a skipped step; tells whether that many may be."""
        self.skipped += 1
        return self.skipped <= self.max_skipped

    def saved(self) -> None:
        """Says that a checkpoint was just saved."""
        self._steps, self._since, self._next_clock = 0, time.monotonic(), _STEPS_BETWEEN_CLOCKS

    def steps_left(self) -> int:
        """Returns how many steps may be made before one asks `stop` and `due`."""
        return max(1, self.every_steps - self._steps) if self.every_steps else sys.maxsize

    def stop(self, step: int, count: int = 1) -> bool:
        """Tells whether the run was asked to end; to be called after each `count` steps, the last being `step`."""
        self._steps += count
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
        if self._steps < self._next_clock:
            return False
        self._next_clock = self._steps + _STEPS_BETWEEN_CLOCKS
        return bool(multihost_utils.broadcast_one_to_all(np.int32(late)))


def require_finite(tree: Any, when: str, *, name: str = 'state') -> None:
    """Raises NonFiniteLossError if a leaf of `tree` holds a NaN or an infinity, naming it, `name` and `when`."""
    for path, leaf in flatten(tree).items():
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not _finite(leaf):
            raise NonFiniteLossError(
                f'{f"{name} {path}".strip()}: not finite {when}. Lower the learning rate or set a clip_norm; the last '
                'good checkpoint is kept.'
            )


def _finite(leaf: jax.Array | np.ndarray) -> bool:
    """Looks at what lies on this process's devices; on the host, for a jitted function would have to be compiled."""
    if isinstance(leaf, np.ndarray):
        return bool(np.isfinite(leaf).all())
    shards = {str(shard.index): shard.data for shard in leaf.addressable_shards}
    return all(np.isfinite(np.asarray(shard)).all() for shard in shards.values())
