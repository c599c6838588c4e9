"""Memory in huge pages, for the commands: on Linux the C library must be told before a process starts.

XLA takes the memory of a step anew in each step. On CPUs about a quarter of a network's train step goes into pages of
4 KB (docs/performance.md); with pages of 2 MB it does not.
"""

import os
import pathlib
import sys
from collections.abc import Mapping

_TUNABLES, _TUNABLE = 'GLIBC_TUNABLES', 'glibc.malloc.hugetlb'
_MODE = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')


def restart() -> None:
    """Starts this program anew, as the same process, with huge pages, if Linux gives them only to those who ask.

    Call it before anything else, in the program that Python was started with, never in a library. Where it cannot
    help (another system or C library, huge pages for all or for none), or where the user has decided
    (`GLIBC_TUNABLES=glibc.malloc.hugetlb=0` keeps small pages), it does nothing.
    """
    try:
        mode, libc = _MODE.read_text('ascii'), os.confstr('CS_GNU_LIBC_VERSION') or ''
    except (OSError, ValueError):
        return
    environment = asking(os.environ, mode, libc)
    if environment is not None and sys.executable and os.access(sys.executable, os.X_OK):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def asking(environment: Mapping[str, str], mode: str, libc: str) -> dict[str, str] | None:
    """Returns the environment to start anew with, or None where that is no use.

    Args:
      environment: of this process.
      mode: when Linux gives huge pages, as it says itself: 'always [madvise] never'.
      libc: name and version, such as 'glibc 2.36'.
    """
    name, _, version = libc.partition(' ')
    parts = version.split('.')
    if name != 'glibc' or not all(part.isdigit() for part in parts):
        return None
    given = environment.get(_TUNABLES, '')
    # From glibc 2.35 on; "always" needs no asking, and "never" no answer.
    if tuple(map(int, parts)) < (2, 35) or '[madvise]' not in mode or _TUNABLE in given:
        return None
    return {**environment, _TUNABLES: ':'.join(filter(None, (given, f'{_TUNABLE}=1')))}
