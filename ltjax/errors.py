"""The exceptions that mean "the user can mend this" and "start me again"."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in input or configuration: one line that names the thing and the remedy.

    The command-line programs print it without a traceback and exit with status 2.
    """


# EX_TEMPFAIL of sysexits.h.
TRY_AGAIN = 75


class Preempted(SystemExit):
    """A run was told to end and can be resumed; uncaught, it ends the process with status 75.

    Args:
      message: one line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(TRY_AGAIN)
        self.message = message

    def __str__(self) -> str:
        return self.message


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
