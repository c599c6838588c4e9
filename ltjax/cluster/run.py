"""What the processes of a run do together before and after it."""

import contextlib
import io
import json
import os
import pathlib
import sys
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn, TextIO

from absl import logging

from ltjax.cluster import meeting
from ltjax.cluster.environment import Cluster
from ltjax.cluster.lifeline import Lifeline
from ltjax.errors import UserError


def facts(config: Any, folder: pathlib.Path) -> dict[str, str]:
    """Returns what must be equal on all processes of a run, by the name that a complaint gives it."""
    # Here, so that the command's --help does not wait for numpy.
    from ltjax import provenance

    return {
        **_flat(json.loads(config.to_json()), 'config'),
        '--workdir': str(folder),
        'whether the run in the workdir is finished': str((folder / 'results.json').exists()),
        'the source of ltjax (sha256)': provenance.source_digest(),
        **{f'the version of {name}': version for name, version in provenance.versions().items()},
    }


def _flat(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict):
        return {name: json.dumps(value)}
    return {k: v for key in value for k, v in _flat(value[key], f'{name}.{key}').items()}


@contextlib.contextmanager
def joined(
    cluster: Cluster | None, config: Any, folder: pathlib.Path, *, timeout: float
) -> Iterator[None]:
    """Runs its body as one of several processes; with None, as ever.

    The processes meet and compare what they are about to run; then jax makes their devices one. If one of them fails,
    all end at once, with its error and status. Processes other than 0 print errors only, each line with their number.
    A SystemExit from the body is an orderly end: the others have `lifeline.GRACE` seconds to follow.

    Args:
      cluster: from `find`.
      config: of the run.
      folder: its workdir.
      timeout: seconds until all must be there.

    Raises:
      UserError: see `meeting.join`.
    """
    if cluster is None:
        yield
        return
    if cluster.process_id > 0:
        _hush(cluster.process_id)
    line = meeting.join(
        cluster.host,
        cluster.lifeline_port,
        num_processes=cluster.num_processes,
        process_id=cluster.process_id,
        facts={'the number of processes': str(cluster.num_processes), **facts(config, folder)},
        timeout=timeout,
    )
    try:
        _initialize(cluster)
        yield
    except SystemExit as end:
        if isinstance(end.code, str):
            _fail(line, end)
        line.leave(end.code or 0)
        raise
    except BaseException as error:
        _fail(line, error)
    line.leave()


def _initialize(cluster: Cluster) -> None:
    import jax

    jax.distributed.initialize(
        cluster.coordinator,
        cluster.num_processes,
        cluster.process_id,
        local_device_ids=cluster.local_device_ids,
        # Under SLURM and Open MPI it would leave each process one device, even where it has the host for itself.
        cluster_detection_method='deactivate',
        initialization_timeout=60,
        shutdown_timeout_seconds=30,
    )


def _fail(line: Lifeline, error: BaseException) -> NoReturn:
    """Prints an error as the command would, and ends every process."""
    if isinstance(error, (UserError, SystemExit)):
        print(f'error: {error}', file=sys.stderr)
    else:
        line.wait_for_cause()
        traceback.print_exception(error)
    if isinstance(error, UserError):
        line.fail(str(error), 2)
    line.fail(f'{type(error).__name__}: {error}', 1)


def _hush(process_id: int) -> None:
    """Leaves this process its errors, each line with its number, until it ends."""
    sys.stdout = io.TextIOWrapper(io.FileIO(os.devnull, 'w'))
    sys.stderr = _Prefixed(sys.stderr, f'[process {process_id}] ')
    logging.set_verbosity(logging.ERROR)
    logging.get_absl_handler().python_handler.setStream(sys.stderr)


class _Prefixed:
    """A text stream that begins every line with a prefix."""

    def __init__(self, stream: TextIO, prefix: str) -> None:
        self._stream = stream
        self._prefix = prefix
        self._at_start = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        for part in text.splitlines(keepends=True):
            self._stream.write(self._prefix + part if self._at_start else part)
            self._at_start = part.endswith('\n')
        return len(text)
