"""Paths as users write them, and those that a run can be kept in."""

import pathlib
from typing import Any

from ltjax.errors import UserError

# Folders below the root that etils takes for the schemes of URLs.
_CLOUDS = ('gs', 's3', 'az', 'hf')


def check_target(target: pathlib.Path, source: pathlib.Path) -> None:
    """Refuses to write over what is read.

    Raises:
      UserError: both are one file.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError(f'{target} is what is read: write to another file.')


def user_path(path: str | pathlib.Path) -> pathlib.Path:
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


def check_place(workdir: pathlib.Path, config: Any) -> None:
    """Raises UserError if no run can be kept in `workdir`: see `check_name`, or it would be read as data.

    Between folders of images it would be a class when the run is gone on with.
    """
    check_name(workdir)
    data = user_path(config.data.path) if config.data.path else None
    if data is not None and data.is_dir() and workdir.resolve().is_relative_to(data.resolve()):
        raise UserError(f'{workdir} lies in the data, {data}: give a --workdir elsewhere.')
