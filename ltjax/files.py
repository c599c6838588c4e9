"""Files written whole or not at all; paths as users write them, and those that checkpoints can be kept in."""

import contextlib
import csv
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

import numpy as np

from ltjax.errors import UserError

# Folders below the root that etils takes for the schemes of URLs.
_CLOUDS = ('gs', 's3', 'az', 'hf')


def check_target(target: pathlib.Path, source: pathlib.Path) -> None:
    """Refuses to write over what is read.

    Raises:
      UserError: both are one file, or the target is a file in the folder that is read.
    """
    if not target.exists() or not source.exists():
        return
    if target.samefile(source) or (
        source.is_dir() and source.resolve() in target.resolve().parents
    ):
        raise UserError(f'{target} is what is read: write to another file.')


def user_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns a path with `~` and `~user` replaced, which a shell leaves alone behind `--flag=`.

    >>> user_path('~/runs') == pathlib.Path.home() / 'runs'
    True
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:  # there is no such user: it is a name that begins so
        return pathlib.Path(path)


def check_name(path: pathlib.Path) -> None:
    """Raises UserError if no checkpoint can be kept in `path`, or below it, because of how it is called.

    The libraries that write checkpoints would put them elsewhere: TensorStore takes a backslash for a slash and names
    for UTF-8; Orbax and etils take what begins like the address of a cloud's storage for one.
    """
    name = str(path.absolute())
    root, reason = name.split('/')[1], ''
    if '\\' in name:
        reason = 'a backslash'
    elif any('\ud800' <= letter <= '\udfff' for letter in name):
        reason = 'a byte that is not UTF-8'
    elif 'gs:/' in f'{name}/':
        reason = "'gs:/', which is taken for the address of a cloud's storage"
    elif root in _CLOUDS:
        reason = f"the beginning '/{root}', which is taken for the address of a cloud's storage"
    if reason:
        shown = name.encode('utf-8', 'backslashreplace').decode('utf-8')
        raise UserError(
            f'no checkpoint can be kept in {shown}: its name has {reason}. Rename it, give another --workdir, or go '
            'through a symbolic link with another name.'
        )


@contextlib.contextmanager
def locked(path: pathlib.Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Keeps out others who lock the file `path`, until the block or the process ends, however it ends.

    Args:
      path: made if it is not there; who removes it does so inside the block.
      on_wait: is called if another is in, for whose end it waits then.

    Raises:
      BlockingIOError: another is in, and there is no `on_wait`.
      OSError: there are no locks here, or the file cannot be written.
    """
    if fcntl is None:
        raise OSError('this system has no locks')
    while True:
        with path.open('a', encoding='utf-8') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_wait is None:
                    raise
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return
            # Else who was in has removed it.


@contextlib.contextmanager
def whole(path: pathlib.Path, ending: str = 'tmp') -> Iterator[pathlib.Path]:
    """Gives a file beside `path` to write to, which takes its place at the end; if writing fails, nothing is left."""
    temporary = path.with_name(f'{path.name}.{ending}')
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: pathlib.Path, values: Any) -> None:
    """Writes JSON whole or not at all."""
    write_text(path, json.dumps(values, indent=1) + '\n')


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, 'utf-8')


def write_csv(
    path: pathlib.Path, rows: Iterable[Iterable[object]], lineterminator: str = '\n'
) -> None:
    """Writes a CSV whole or not at all, its columns' names being the first row."""
    with whole(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file, lineterminator=lineterminator).writerows(rows)


def write_npy(path: pathlib.Path, values: np.ndarray) -> None:
    """Writes an array whole or not at all."""
    with whole(path) as temporary, temporary.open('wb') as file:
        np.save(file, values, allow_pickle=False)


def write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed npz whole or not at all."""
    with whole(path) as temporary, temporary.open('wb') as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
