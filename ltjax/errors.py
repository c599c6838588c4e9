"""The one exception that means "the user can mend this"."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in input or configuration: one line that names the thing and the remedy.

    The command-line programs print it without a traceback and exit with status 2.
    """


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """Returns the error for a name that does not exist, with the nearest valid names.

    Args:
      kind: what the name should have been, for example 'data set'.
      name: what was given.
      valid: the names that exist.
    """
    names = sorted(valid)
    nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if nearest:
        return UserError(f'unknown {kind} {name!r}: did you mean {" or ".join(nearest)}?')
    return UserError(f'unknown {kind} {name!r}: choose one of {", ".join(names)}.')
