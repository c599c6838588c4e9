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
    if near := nearest(name, names):
        return UserError(f'unknown {kind} {name!r}: did you mean {near}?')
    return UserError(f'unknown {kind} {name!r}: choose one of {", ".join(names)}.')


def nearest(name: str, valid: Iterable[str]) -> str:
    """Returns the valid names that are most like one that does not exist, with `or` between them; '' if none is."""
    return ' or '.join(difflib.get_close_matches(name, sorted(valid), n=3, cutoff=0.5))
