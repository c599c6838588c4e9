"""What all commands share: how they end, and what they were called."""

import contextlib
import os
import sys
from collections.abc import Iterator

from ltjax.errors import Preempted, UserError


@contextlib.contextmanager
def exits() -> Iterator[None]:
    """Ends the process as a command does: a mistake is one line on stderr and status 2.

    So is what the system refuses: a full disk, a name that is too long, memory that is not there. A run that was told
    to end says so and ends with its own status, see `Preempted`.
    """
    try:
        yield
    except Preempted as end:
        print(end, file=sys.stderr)
        raise
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    except (
        BrokenPipeError
    ):  # the reader has seen enough, as `| head` has: nothing more is written, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a name that is too long: no fault of the program
        if error.errno is None:
            raise
        what = '' if error.filename is None else f'{error.filename}: '
        print(f'error: {what}{error.strerror}', file=sys.stderr)
        sys.exit(2)
    except MemoryError as error:
        print(f'error: there is not enough memory. {error}'.strip(), file=sys.stderr)
        sys.exit(2)


@contextlib.contextmanager
def goes_on(what: str) -> Iterator[None]:
    """Makes one line of what a disk raises that is full or gone, in a command that goes on when it is given again.

    Args:
      what: cannot be read or written, where the error does not say.
    """
    try:
        yield
    except BrokenPipeError:  # whose end `exits` knows
        raise
    except OSError as error:
        raise UserError(
            f'{error.filename or what}: {error.strerror or error}. Mend that, and give the same command again: '
            'it goes on.'
        ) from None


def called(module: str) -> str:
    """Returns how the command of a module was called: 'ltjax predict', or 'python -m ltjax.predict'."""
    name = sys.argv[0]  # see ltjax/__main__.py
    return name if name.startswith(('ltjax ', 'python -m ltjax ')) else f'python -m {module}'
