"""The folder of a run: whose it is, what made it, and files written whole or not at all.

Of several processes the first alone writes and locks.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from ltjax import __version__
from ltjax.errors import UserError

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy', 'scikit-learn')

# Seconds until a network file system shows on one host what another has written.
_SEEN_WITHIN = 10.0

# Keys of the config that change no result: when to save, what to watch, how to share the work.
FREE = (
    'checkpoint',
    'watchdog_minutes',
    'on_nonfinite',
    'max_skipped',
    'mesh',
    'accumulate',
)


def check(workdir: pathlib.Path, config: Any) -> None:
    """Raises UserError if `workdir` holds what another config trained.

    A run that ended before its first checkpoint has trained nothing, and is in nobody's way. If config.json is damaged,
    what an unfinished run's checkpoints say of its config counts, see `changes`.
    """
    finished = (workdir / 'results.json').exists()
    if not (workdir / 'config.json').exists() or not (
        finished or any(workdir.glob('checkpoints/*'))
    ):
        return
    try:
        theirs = read_config(workdir)
    except UserError:
        if finished:
            raise
        return
    differing = _differences(theirs, json.loads(config.to_json()))
    if differing:
        raise UserError(
            f'{workdir} holds a run of another config (it differs in {differing[0][0]}): '
            'give another --workdir, remove this one, or go on regardless with --force_resume.'
        )


def claim(workdir: pathlib.Path, config: Any) -> None:
    """Makes the workdir this config's, by its config.json; one that is so already is left alone.

    Raises:
      UserError: the workdir cannot be written.
    """
    values = json.loads(config.to_json())
    try:
        if (workdir / 'config.json').exists():
            with contextlib.suppress(UserError):
                if read_config(workdir) == values:
                    return
        workdir.mkdir(parents=True, exist_ok=True)
        header = {
            'command': f'python -m ltjax.main {shlex.join(sys.argv[1:])}',
            'started': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
        }
        header |= {'config_sha256': _digest(values)}
        write_json(workdir / 'config.json', provenance(config) | header)
    except OSError as error:
        raise UserError(
            f'cannot write to {workdir} ({error.strerror}): give another --workdir.'
        ) from None


def is_first_process() -> bool:
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
    deadline = time.monotonic() + _SEEN_WITHIN
    while not (workdir / name).exists():
        if time.monotonic() > deadline:
            raise UserError(
                f'{workdir} of process {jax.process_index()} lacks {name}, which process 0 has written: give a '
                '--workdir that all processes share.'
            )
        time.sleep(0.1)


def provenance(config: Any) -> dict[str, Any]:
    """Returns what a result comes from: the config, versions, the source's digest and its git commit."""
    return {
        'config': json.loads(config.to_json()),
        'versions': versions(),
        'source': source_digest(),
        'git': git_commit(),
    }


def changes(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Compares two provenances.

    Returns:
      What changed and may change results, and what changed otherwise: 'versions.numpy: 2.3.1, now 2.4.6'.
    """
    found = _differences(theirs, ours, free=())
    serious: list[str] = []
    harmless: list[str] = []
    for name, before, now in found:
        group, _, key = name.partition('.')
        free = group in ('git', 'devices') or name == 'versions.python' or key.split('.')[0] in FREE
        (harmless if free else serious).append(f'{name}: {before}, now {now}')
    return serious, harmless


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[Callable[[], None]]:
    """Keeps other runs out of a workdir, until the block or the process ends, however it ends.

    Yields:
      A function that raises UserError if the workdir is no longer the one that was locked.

    Raises:
      UserError: another run is in it.
    """
    if not is_first_process():
        yield lambda: None
        return
    path = workdir / 'run.lock'

    def same(file: TextIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), path.stat())
        except OSError:
            return False

    def check_present() -> None:
        if not same(file):
            raise UserError(
                f'{workdir} has vanished or was replaced: bring it back and start the same command again; it '
                'goes on from the last whole checkpoint.'
            )

    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(path.open('a+', encoding='utf-8'))
            _lock(file)
            if same(file):  # else another run has ended and removed it meanwhile
                break
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        yield check_present
        path.unlink(missing_ok=True)


def _lock(file: TextIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise UserError(
            f'another run is in {pathlib.Path(file.name).parent} ({file.read().strip()}): wait for it, or give '
            'another --workdir.'
        ) from None
    except OSError as error:
        logging.warning('%s cannot be locked (%s): start no second run', file.name, error.strerror)


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns the config that a run was made with.

    Raises:
      UserError: its config.json is damaged.
    """
    path = workdir / 'config.json'
    try:
        header = json.loads(path.read_text('utf-8'))
        config = header['config']
        if header.get('config_sha256', _digest(config)) != _digest(config):
            raise ValueError('a byte of it was changed')
        return config
    except (ValueError, KeyError):
        raise UserError(f'{path} is damaged: remove {workdir} or give another --workdir.') from None


def _differences(
    theirs: Mapping, ours: Mapping, prefix: str = '', free: Sequence[str] = FREE
) -> list[tuple[str, Any, Any]]:
    """Returns (name, theirs, ours) of what differs; names in `free` do not count on the first level."""
    found = []
    for name in sorted(set(theirs) | set(ours)):
        a, b = theirs.get(name), ours.get(name)
        if a == b or name in free:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f'{prefix}{name}.', ())
        else:
            found.append((prefix + name, a, b))
    return found


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Returns the versions that a result depends on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {'ltjax': __version__, 'python': sys.version.split()[0]} | found


def git_commit() -> str:
    """Returns the commit of the source tree, with '-dirty' if it was changed; '' if it is no repository."""
    root = pathlib.Path(__file__).resolve().parent.parent
    if not (root / '.git').exists():
        return ''
    command = ['git', '-C', str(root), 'describe', '--always', '--dirty', '--abbrev=40']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ''


def source_digest() -> str:
    """Returns a digest of ltjax's source, which a commit is not: it may have been changed since."""
    root = pathlib.Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob('*.py')):
        digest.update(path.relative_to(root).as_posix().encode() + b'\0' + path.read_bytes())
    return digest.hexdigest()


def write_json(path: pathlib.Path, values: Any) -> None:
    """Writes JSON whole or not at all."""
    write_text(path, json.dumps(values, indent=1) + '\n')


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text whole or not at all."""
    if not is_first_process():
        return
    temporary = path.with_suffix('.tmp')
    temporary.write_text(text, 'utf-8')
    os.replace(temporary, path)


def write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed npz whole or not at all."""
    if not is_first_process():
        return
    temporary = path.with_suffix('.tmp')
    with temporary.open('wb') as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(temporary, path)
