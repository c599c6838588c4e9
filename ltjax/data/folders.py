"""What lies in a folder of images: FOLDER/<class>/*, FOLDER/<split>/<class>/*, or FOLDER/* without labels."""

import dataclasses
import os
import pathlib
import re
from collections import Counter
from collections.abc import Sequence

from ltjax.data import splits
from ltjax.data.images import SUFFIXES
from ltjax.errors import UserError

_UNWRITABLE = re.compile('[\x00-\x1f\ud800-\udfff]')  # control characters; bytes that are not UTF-8


@dataclasses.dataclass(frozen=True)
class Listing:
    """The content of a folder, sorted; names are relative to it, with slashes.

    Attributes:
      directories: folders right below it.
      has_splits: whether those are train, val and test, and the class folders below them.
      files: images, where training looks for them; also links that lead nowhere.
      classes: class folders, also those without images.
      stray: images outside the class folders.
      linked: links to folders, which are not followed: they may lead in a circle.
      unwritable: names that no table can hold, as ASCII.
      other: how many other files there are of each suffix; and hidden folders.
    """

    directories: Sequence[str]
    has_splits: bool
    files: Sequence[str]
    classes: Sequence[str]
    stray: Sequence[str]
    linked: Sequence[str]
    unwritable: Sequence[str]
    other: Counter[str]

    def class_of(self, name: str) -> str:
        """Returns the class folder of an image, '' if there are no class folders."""
        return name.split('/')[self.has_splits] if self.directories else ''


def read(root: pathlib.Path) -> Listing:
    """Lists the folder `root`.

    Raises:
      UserError: it, or a folder in it, cannot be read.
    """
    found, other = list[pathlib.Path](), Counter[str]()
    for parent, below, files in os.walk(root, onerror=_refuse):
        hidden = [name for name in below if name.startswith('.')]  # .git, .ipynb_checkpoints
        other.update(hidden)
        below[:] = [name for name in below if name not in hidden]
        found += [pathlib.Path(parent, name) for name in (*below, *files)]
    found.sort()
    directories = [path.name for path in found if path.parent == root and path.is_dir()]
    has_splits = bool(directories) and set(directories) <= set(splits.NAMES)
    images, stray, linked, unwritable = [], [], [], []
    classes = set[str]()
    for path in found:
        name = path.relative_to(root).as_posix()
        depth = name.count('/')
        if _UNWRITABLE.search(name):
            unwritable.append(ascii(name))
        elif path.is_dir():
            if path.is_symlink():
                linked.append(name)
            elif depth == has_splits:
                classes.add(path.name)
        elif path.suffix.lower() not in SUFFIXES:
            other[path.suffix.lower() or path.name] += 1
        elif directories and depth <= has_splits:
            stray.append(name)
        else:
            images.append(name)
    return Listing(
        directories, has_splits, images, sorted(classes), stray, linked, unwritable, other
    )


def _refuse(error: OSError) -> None:
    raise UserError(f'{error.filename} cannot be read ({error.strerror}): allow it.')
