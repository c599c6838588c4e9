"""The tables of the ISIC sets: `image` and a column a class, of which one holds a 1 (`1`, `1.0`)."""

import argparse
import pathlib
from collections.abc import Mapping, Sequence

from data_prep.tools import tool
from ltjax.errors import UserError
from ltjax.files import user_path

# By part, what authors call its file.
_FILES = {
    'train': ('train.csv', 'training.csv'),
    'val': ('val.csv', 'validation.csv'),
    'test': ('test.csv', 'testing.csv'),
}


def read(path: pathlib.Path, classes: Sequence[str], drop: Sequence[str] = ()) -> dict[str, int]:
    """Returns the class index by image name, in the order of the file.

    Args:
      path: the CSV; columns beyond those named here do not matter.
      classes: columns of the classes, in the order of their indices.
      drop: columns of classes whose images are left out; they need not be there.

    Raises:
      UserError: a column is missing, a row does not mark exactly one class, an image is named twice.
    """
    labels: dict[str, int] = {}
    seen = set()
    for row in tool.read_rows(path, ('image', *classes)):
        name = row['image']
        known = (*classes, *(column for column in drop if column in row))
        try:
            marked = [column for column in known if float(row[column]) == 1]
            zeros = sum(float(row[column]) == 0 for column in known)
        except (TypeError, ValueError):
            raise UserError(f'{path}: the row of {name} holds no 0 or 1: get it again.') from None
        if len(marked) != 1 or zeros != len(known) - 1:
            raise UserError(f'{path}: {name} has {len(marked)} of {", ".join(known)}, not one.')
        if name in seen:
            raise UserError(f'{path} names {name} twice: get it again.')
        seen.add(name)
        if marked[0] in classes:
            labels[name] = classes.index(marked[0])
    return labels


def add_option(parser: argparse.ArgumentParser) -> None:
    """Adds --splits DIR, the split that authors published, as protocol `authors`."""
    parser.add_argument(
        '--splits', type=user_path, help="folder of authors' train.csv, val.csv and test.csv"
    )


def read_splits(
    folder: pathlib.Path | None, classes: Sequence[str], labels: Mapping[str, int]
) -> dict[str, dict[str, str]]:
    """Reads authors' train.csv, val.csv and test.csv; a set without validation has no val.csv.

    Args:
      folder: where they lie; None: there are none.
      classes: columns of the classes.
      labels: the official class indices of the images that are taken.

    Returns:
      {'authors': the part by image}; nothing without a folder.

    Raises:
      UserError: no train.csv or test.csv, an image in two parts or of another class than the official one.
    """
    if folder is None:
        return {}
    split: dict[str, str] = {}
    for part, names in _FILES.items():
        path = tool.look(folder, *names)
        if path is None and part != 'val':
            raise UserError(f'{folder} has no {names[0]}: correct --splits.')
        for image, label in read(path, classes).items() if path else ():
            if image in split:
                raise UserError(f'{path}: {image} is also in {split[image]}: correct --splits.')
            if labels.get(image, label) != label:
                official = classes[labels[image]]
                raise UserError(f'{path}: {image} is {classes[label]}, officially {official}.')
            split[image] = part
    known = {image: part for image, part in split.items() if image in labels}
    if not known:
        raise UserError(f'{folder} names none of the images: correct --splits.')
    if len(known) < len(split):
        print(f'{len(split) - len(known)} images of {folder} are not there')
    return {'authors': known}
