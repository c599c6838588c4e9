"""What a result comes from: the config, the source, its git commit, the versions of packages."""

import hashlib
import importlib.metadata
import json
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ltjax.version import __version__

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy', 'scikit-learn')


def of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a result comes from: the config, versions, the source's digest and its git commit."""
    return {
        'config': dict(config),
        'versions': versions(),
        'source': source_digest(),
        'git': git_commit(),
    }


def versions() -> dict[str, str]:
    """Returns the versions that a result depends on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {'ltjax': __version__, 'python': sys.version.split()[0]} | found


def command() -> str:
    """Returns what this process was started with, as one would type it."""
    program, *words = sys.orig_argv
    if words and pathlib.Path(words[0]).stem == 'ltjax':  # a script of the command's name
        program, *words = words
    return shlex.join([pathlib.Path(program).name, *words])


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
    """Returns a digest of ltjax's source, which a commit is not: it may have been changed since.

    Without the config files that an installed package has inside: what they say is in the config.
    """
    root = pathlib.Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(set(root.rglob('*.py')) - set(root.glob('configs/*'))):
        digest.update(path.relative_to(root).as_posix().encode() + b'\0' + path.read_bytes())
    return digest.hexdigest()


def differences(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], prefix: str = '', free: Sequence[str] = ()
) -> list[tuple[str, Any, Any]]:
    """Returns (name, theirs, ours) of what differs; names in `free`, such as 'mesh' or 'data.cache', do not count.

    A key that is missing is like an empty list: older versions have not all keys of today.
    """
    found = []
    for name in sorted(set(theirs) | set(ours)):
        a, b = theirs.get(name), ours.get(name)
        if a == b or prefix + name in free or (a in (None, []) and b in (None, [])):
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f'{prefix}{name}.', free)
        else:
            found.append((prefix + name, a, b))
    return found


def digest(values: Mapping[str, Any]) -> str:
    """Returns the sha256 of JSON values; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
