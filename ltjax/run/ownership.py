"""Whose a workdir is: one config's, and one run's at a time."""

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from absl import logging

from ltjax import files, methods, processes, provenance
from ltjax.errors import UserError
from ltjax.run.settings import FREE, Settings

# What a disk that is full, gone or not to be written says.
_DISK = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.ENODEV,
}


def check_place(workdir: pathlib.Path, settings: Settings) -> None:
    """Raises UserError if no run can be kept in `workdir`: see `files.check_name`, or it would be read as data.

    Between folders of images it would be a class when the run is resumed.
    """
    files.check_name(workdir)
    data = files.user_path(settings.data.path) if settings.data.path else None
    if data is not None and data.is_dir() and workdir.resolve().is_relative_to(data.resolve()):
        raise UserError(f'{workdir} lies in the data, {data}: give a --workdir elsewhere.')


def check(workdir: pathlib.Path, settings: Settings) -> None:
    """Raises UserError if `workdir` holds what another config trained.

    A run that ended before its first checkpoint has trained nothing, and is in nobody's way. If config.json is damaged,
    what an unfinished run's checkpoints say of its config counts, see `resuming.changes`.
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
    differing = provenance.differences(resolved(theirs), resolved(settings.values), free=FREE)
    if differing:
        raise UserError(
            f'{workdir} holds a run of another config (it differs in {differing[0][0]}): '
            'give another --workdir, remove this one, or go on regardless with --force_resume.'
        )


def resolved(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config with today's defaults for what it does not say: older versions had not all keys of today."""
    try:
        settings = Settings.of(values)
        method = dataclasses.asdict(methods.parse(settings.method))
    except UserError:  # there are keys that are no more
        return dict(values)
    found = dataclasses.asdict(dataclasses.replace(settings, values={}))
    found['model'] |= found['model'].pop('options')
    return found | {'method': {'name': settings.method['name'], **method}}


def claim(workdir: pathlib.Path, settings: Settings) -> None:
    """Makes the workdir this config's, by its config.json; one that is so already is left alone.

    Raises:
      UserError: the workdir cannot be written.
    """
    try:
        if (workdir / 'config.json').exists():
            with contextlib.suppress(UserError):
                if read_config(workdir) == settings.values:
                    return
        workdir.mkdir(parents=True, exist_ok=True)
        header = {
            'command': provenance.command(),
            'started': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
        }
        header |= {'config_sha256': provenance.digest(settings.values)}
        if processes.is_first():
            files.write_json(workdir / 'config.json', provenance.of(settings.values) | header)
    except OSError as error:
        raise UserError(
            f'cannot write to {workdir} ({error.strerror}): give another --workdir.'
        ) from None


@contextlib.contextmanager
def taken(workdir: pathlib.Path) -> Iterator[Callable[[], None]]:
    """Makes the workdir, if it is not there, and keeps other runs out of it; see `locked`."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'cannot write to {workdir} ({error.strerror}): give another --workdir.'
        ) from None
    with locked(workdir) as check_present:
        yield check_present


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[Callable[[], None]]:
    """Keeps other runs out of a workdir, until the block or the process ends, however it ends.

    Yields:
      A function that raises UserError if the workdir is no longer the one that was locked.

    Raises:
      UserError: another run is in it.
    """
    if not processes.is_first():
        yield lambda: None
        return
    path = workdir / 'run.lock'
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(path))
        except BlockingIOError:
            who = path.read_text('utf-8').strip()
            raise UserError(
                f'another run is in {workdir} ({who}): wait for it, or give another --workdir.'
            ) from None
        except OSError as error:
            logging.warning('%s cannot be locked (%s): start no second run', path, error)
        path.write_text(f'process {os.getpid()} on {socket.gethostname()}\n', 'utf-8')
        ours = path.stat()

        def check_present() -> None:
            with contextlib.suppress(OSError):
                if os.path.samestat(ours, path.stat()):
                    return
            raise UserError(
                f'{workdir} has vanished or was replaced: bring it back and start the same command again; it '
                'goes on from the last whole checkpoint.'
            )

        yield check_present
        path.unlink(missing_ok=True)


def read_results(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns what a run says of itself.

    Raises:
      UserError: it is damaged, of folds, or no run's.
    """
    path = workdir / 'results.json'
    try:
        found = json.loads(path.read_text('utf-8'))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(
            f'{path} is damaged: copy it from the run again, or start the run again, which makes it anew from its '
            'checkpoints.'
        )
    if 'best' in found:
        return found
    if (workdir / 'fold-0').exists():
        raise UserError(f'{workdir} holds folds: name one of them, {workdir / "fold-0"} say.')
    raise UserError(f'{path} is not that of a run: give the --workdir of one.')


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns the config that a run was made with.

    Raises:
      UserError: its config.json is damaged.
    """
    path = workdir / 'config.json'
    try:
        header = json.loads(path.read_text('utf-8'))
        config = header['config']
        if header.get('config_sha256', provenance.digest(config)) != provenance.digest(config):
            raise ValueError('a byte of it was changed')
        return config
    except FileNotFoundError:
        raise UserError(f'{path} is missing: copy it from the run again.') from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f'{path} is damaged: remove {workdir} or give another --workdir.') from None


@contextlib.contextmanager
def disk_errors(workdir: pathlib.Path) -> Iterator[None]:
    """Makes one line of what a disk that is full or gone raises."""
    try:
        yield
    except OSError as error:
        inside = str(error.filename or '').startswith(str(workdir))
        if error.errno not in _DISK and not inside:
            raise
        raise UserError(
            f'cannot write to {workdir} ({error.strerror}): mend that, and start the same command again; it goes on '
            'from the last whole checkpoint.'
        ) from error
