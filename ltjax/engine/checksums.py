"""Whether the files of checkpoints are what was written: sums, and what becomes of a checkpoint that fails them."""

import hashlib
import json
import pathlib
import shutil

from ltjax import files

# In the folder of a checkpoint: the sha256 of each of its files. Written last: without it, a checkpoint is unfinished.
SUMS = 'sha256.json'

# Beside `checkpoints/`: where those go that are damaged, unfinished, or newer than the one that a run went on from.
SET_ASIDE = 'set_aside'


def seal(folder: pathlib.Path, best: int | None) -> None:
    """Writes the sums of a checkpoint.

    Args:
      folder: of the checkpoint, which nothing writes to any more.
      best: number of the best checkpoint up to this one, which the end of the run will need; None: not known yet.
    """
    files.write_json(folder / SUMS, {'best': best, 'files': _sums(folder)})


def settle(directory: pathlib.Path) -> list[str]:
    """Sets aside what a run cannot go on from, so that the newest checkpoint left is the one to resume.

    That one is whole, and so is the best one before it, which the end of the run will need. Checkpoints are renamed,
    never removed.

    Returns:
      A line for each checkpoint that was set aside.
    """
    lines = []
    if directory.exists():
        found = {
            int(path.name): examine(path) for path in directory.iterdir() if path.name.isdigit()
        }
        sound = {number for number, (damage, _) in found.items() if not damage}
        usable = max((n for n in sound if found[n][1] in {None, *sound}), default=None)
        for number, (damage, best) in sorted(found.items()):
            if number in sound and usable is not None and number <= usable:
                continue
            reason = damage
            if number in sound:
                reason = f'the best before it, checkpoint {best}, is damaged'
            place = _set_aside(directory / str(number))
            lines.append(f'checkpoint {number}: {reason}. It is kept as {place}')
        if lines:
            lines.append(
                'going on from ' + ('the beginning' if usable is None else f'checkpoint {usable}')
            )
    return lines


def examine(folder: pathlib.Path) -> tuple[str, int | None]:
    """Returns what is wrong with the files of a checkpoint ('': nothing), and the number of the best one before it."""
    if not folder.exists():
        return 'there is none', None
    try:
        expected = json.loads((folder / SUMS).read_text('utf-8'))
        best, files = expected['best'], dict(expected['files'])
    except FileNotFoundError:
        return 'it is unfinished', None
    except (OSError, ValueError, TypeError, KeyError):
        return f'it is damaged ({SUMS})', None
    found = _sums(folder)
    strange = sorted(n for n in {*files, *found} if files.get(n) != found.get(n))
    return (f'it is damaged ({strange[0]})' if strange else '', best)


def _sums(folder: pathlib.Path) -> dict[str, str]:
    """Returns the sha256 of every file of a checkpoint by its path in it."""
    sums = {}
    for path in sorted(folder.rglob('*')):
        if path.is_file() and path != folder / SUMS:
            with path.open('rb') as file:
                name = path.relative_to(folder).as_posix()
                sums[name] = hashlib.file_digest(file, 'sha256').hexdigest()
    return sums


def _set_aside(path: pathlib.Path) -> pathlib.Path:
    """Moves a checkpoint beside the folder of checkpoints, under a name that is free; returns it."""
    folder = path.parent.parent / SET_ASIDE
    folder.mkdir(exist_ok=True)
    place, count = folder / path.name, 1
    while place.exists():
        place, count = folder / f'{path.name}-{count}', count + 1
    return pathlib.Path(shutil.move(path, place))
