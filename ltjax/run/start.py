"""Starts what a config asks for: one run, or one a fold."""

import os
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from ltjax.errors import UserError
from ltjax.files import user_path
from ltjax.run import cross_validation
from ltjax.run import train as single


def train(
    config: ConfigDict,
    workdir: str | os.PathLike[str],
    *,
    on_round: Callable[[dict[str, Any]], object] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Trains, tests and reports as `config` says; a run that has begun is resumed, a finished one is read.

    Args:
      config: from `get_config`, with any changes. data.split.fold=-1 runs every fold.
      workdir: gets all that a run leaves, see `run.train.run`.
      on_round: is called after every round, on the first process, with the row that metrics.jsonl
        has got; what it raises ends the run, which repeats that round when it is resumed.
      force: go on with a run though its config, the source or versions changed in a way that may
        change results.

    Returns:
      What results.json holds.

    Raises:
      UserError: a mistake in config or data, or training diverged: what the command prints.
      Preempted: SIGTERM or SIGINT ended the run, which can be resumed. Signals are taken in the
        main thread only.
    """
    if not isinstance(config, ConfigDict) or 'data' not in config or 'method' not in config:
        raise UserError('config is none of a run: give what ltjax.get_config returns.')
    every_fold = config.data.split.fold == cross_validation.ALL
    run = cross_validation.run if every_fold else single.run
    return run(config, user_path(workdir), force=force, on_round=on_round)
