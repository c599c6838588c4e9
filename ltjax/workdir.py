"""The folder of a run: whose it is, what made it, and files written whole or not at all."""

import importlib.metadata
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ltjax import __version__
from ltjax.errors import UserError

PACKAGES = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy', 'scikit-learn')


def check(workdir: pathlib.Path, config: Any) -> None:
    """Raises UserError if `workdir` holds what another config trained.

    A run that ended before its first checkpoint has trained nothing, and is in nobody's way.
    """
    if not (workdir / 'config.json').exists() or not any(workdir.glob('checkpoints/*')):
        return
    theirs, ours = read_config(workdir), json.loads(config.to_json())
    if theirs != ours:
        raise UserError(
            f'{workdir} holds a run of another config (it differs in {_first_difference(theirs, ours)}): '
            'give another --workdir or remove this one.'
        )


def claim(workdir: pathlib.Path, config: Any) -> None:
    """Makes the workdir this config's, by its config.json; one that is so already is left alone.

    Raises:
      UserError: the workdir holds another config's run, or cannot be written.
    """
    check(workdir, config)
    values = json.loads(config.to_json())
    try:
        if (workdir / 'config.json').exists() and read_config(workdir) == values:
            return
        workdir.mkdir(parents=True, exist_ok=True)
        header = {
            'config': values,
            'command': f'python -m ltjax.main {shlex.join(sys.argv[1:])}',
            'versions': versions(),
            'git': git_commit(),
            'started': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
        }
        write_json(workdir / 'config.json', header)
    except OSError as error:
        raise UserError(
            f'cannot write to {workdir} ({error.strerror}): give another --workdir.'
        ) from None


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns the config that a run was made with.

    Raises:
      UserError: its config.json is damaged.
    """
    path = workdir / 'config.json'
    try:
        return json.loads(path.read_text('utf-8'))['config']
    except (ValueError, KeyError):
        raise UserError(f'{path} is damaged: remove {workdir} or give another --workdir.') from None


def _first_difference(theirs: Mapping, ours: Mapping, prefix: str = '') -> str:
    for name in sorted(set(theirs) | set(ours)):
        a, b = theirs.get(name), ours.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            if a != b:
                return _first_difference(a, b, f'{prefix}{name}.')
        elif a != b:
            return prefix + name
    return prefix


def versions() -> dict[str, str]:
    """Returns the versions that a result depends on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {'ltjax': __version__, 'python': sys.version.split()[0]} | found


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


def write_json(path: pathlib.Path, values: Any) -> None:
    """Writes JSON whole or not at all."""
    temporary = path.with_suffix('.tmp')
    temporary.write_text(json.dumps(values, indent=1) + '\n', 'utf-8')
    os.replace(temporary, path)


def write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed npz whole or not at all."""
    temporary = path.with_suffix('.tmp')
    with temporary.open('wb') as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(temporary, path)
