"""How far a training has come, and how far the round that is under way."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass
class RunProgress:
    """How far a training has come."""

    steps: int  # gradient steps of the whole run
    steps_done: int = 0  # of them
    images_seen: int = 0  # by this process
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # of the log, one a round
    # Stage, round, checkpoint and score of the round that is selected so far.
    best: dict[str, Any] | None = None


@dataclasses.dataclass
class RoundProgress:
    """How far a round has come: what a checkpoint inside it keeps beside state and scratch. JSON values."""

    update: int = 0  # place of the update under way
    step: int = 0  # its steps done in this round
    counted: int = 0  # those of them that were not skipped
    sums: dict[str, float] = dataclasses.field(default_factory=dict)  # of its logged values
    # What the log gets of the updates before it.
    row: dict[str, Any] = dataclasses.field(default_factory=dict)
    images: int = 0  # seen in this round
    seconds: float = 0.0  # that this round has taken

    def next_update(self, row: Mapping[str, Any]) -> None:
        """Goes to the next update; `row` is what the log gets of this one."""
        self.update, self.step, self.counted, self.sums = self.update + 1, 0, 0, {}
        self.row |= row
