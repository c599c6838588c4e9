"""How far a training has come, and how far the round that is under way."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass
class RunProgress:
    """How far a training has come.

    Attributes:
      steps: gradient steps of the whole run.
      steps_done: of them.
      images_seen: by this process.
      rows: of the log, one a round.
      best: stage, round, checkpoint and score of the round that is selected so far.
    """

    steps: int
    steps_done: int = 0
    images_seen: int = 0
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: dict[str, Any] | None = None


@dataclasses.dataclass
class RoundProgress:
    """How far a round has come: what a checkpoint inside it keeps beside state and scratch. JSON values.

    Attributes:
      update: place of the update under way.
      step: its steps done in this round.
      counted: those of them that were not skipped.
      sums: of its logged values.
      row: what the log gets of the updates before it.
      images: seen in this round.
      seconds: that this round has taken.
    """

    update: int = 0
    step: int = 0
    counted: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    row: dict[str, Any] = dataclasses.field(default_factory=dict)
    images: int = 0
    seconds: float = 0.0

    def next_update(self, row: Mapping[str, Any]) -> None:
        """Goes to the next update; `row` is what the log gets of this one."""
        self.update, self.step, self.counted, self.sums = self.update + 1, 0, 0, {}
        self.row |= row
