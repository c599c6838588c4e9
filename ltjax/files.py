"""Paths as users write them."""

import pathlib


def user_path(path: str | pathlib.Path) -> pathlib.Path:
    """Returns a path with `~` and `~user` replaced, which a shell leaves alone behind `--flag=`.

    >>> user_path('~/runs') == pathlib.Path.home() / 'runs'
    True
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:  # there is no such user: it is a name that begins so
        return pathlib.Path(path)
