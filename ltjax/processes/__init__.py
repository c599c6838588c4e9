"""The processes of one run: which of them writes, and that all of them do the same."""

import pathlib
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

from ltjax.errors import UserError


def is_first() -> bool:
    """Returns whether this process writes the files of a run."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def require_equal(what: str, sha256: str) -> None:
    """Returns when all processes have given the same sha256.

    Raises:
      UserError: they have not: each reads files of its own.
    """
    if not jax.distributed.is_initialized():
        return
    digests = multihost_utils.process_allgather(np.frombuffer(bytes.fromhex(sha256), np.uint8))
    differing = np.flatnonzero((digests != digests[0]).any(axis=1))
    if len(differing):
        raise UserError(
            f'{what} of process {differing[0]} differ from those of process 0: give all processes the same files.'
        )


def wait_for_first(workdir: pathlib.Path, name: str) -> None:
    """Returns when all processes are here, and the first has written the file `name` of a run.

    Raises:
      UserError: the file is not there: every process has a workdir of its own.
    """
    if not jax.distributed.is_initialized():
        return
    multihost_utils.sync_global_devices(name)
    for _ in range(100):  # a network file system may show it only after seconds
        if (workdir / name).exists():
            return
        time.sleep(0.1)
    raise UserError(
        f'{workdir} of process {jax.process_index()} lacks {name}, which process 0 has written: give a --workdir that '
        'all processes share.'
    )
