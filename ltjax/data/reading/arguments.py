"""How a command is told about a data set: the flags that the audit, prediction and the pictures of views share."""

import argparse
import contextlib
import pathlib
import re
from collections.abc import Iterator

from ltjax.data import reading
from ltjax.data.reading import csv_table
from ltjax.data.settings import SUBFOLDERS, Columns, Data
from ltjax.errors import UserError, unknown

# Keys below --config.data, and the flags that do the same.
_FLAGS = {
    'images': '--images-in',
    'suffix': '--suffix',
    'subfolders': '--subfolders',
    'spellings': '--spellings',
    'window': '--window',
    'frame': '--frame',
    'class_order': '--class-order',
}


@contextlib.contextmanager
def in_own_words(*further: str) -> Iterator[None]:
    """Makes errors name the flags of the command, where they name the keys of a training's config.

    Args:
      further: keys for which the command has a flag beside those of `add`.
    """
    flags = _FLAGS | {key: f'--{key.replace("_", "-")}' for key in further}
    try:
        yield
    except UserError as error:
        said = re.sub(r'--config\.data\.columns\.(\w+)', r'--columns=\1', str(error))
        keys = '|'.join(flags)
        said = re.sub(rf'--config\.data\.({keys})\b', lambda found: flags[found[1]], said)
        raise UserError(said) from None


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the flags; each does what the value of the same name below --config.data does in training."""
    parser.add_argument(
        '--columns',
        action='append',
        default=[],
        metavar='WHAT=COLUMN',
        help=f'what a column of a CSV is called: WHAT is {", ".join(csv_table.COLUMNS)} '
        f'(label={csv_table.ONE_HOT}: a column a class)',
    )
    parser.add_argument(
        '--images-in', default='', metavar='FOLDER', help='where the images of a CSV of ids lie'
    )
    parser.add_argument('--suffix', default='', help="what such an id lacks of its file's name")
    parser.add_argument(
        '--subfolders',
        choices=SUBFOLDERS,
        default='refuse',
        help='what folders inside class folders are',
    )
    parser.add_argument(
        '--spellings',
        default='',
        metavar='CSV',
        help='columns spelling and class: what else the classes are called',
    )
    parser.add_argument(
        '--window',
        default='',
        help="of images of more than 8 bits and of DICOM: LOW,HIGH, the values that become black and white, or 'file'",
    )
    parser.add_argument('--frame', type=int, default=-1, help='of files with several, from 0')
    parser.add_argument('--class-order', default='', help='the classes with commas, or natural')


def config(path: pathlib.Path, given: argparse.Namespace | None = None) -> Data:
    """Returns the `data` part of a config that reads `path`, as those flags say.

    Raises:
      UserError: the path is not there or no data set, or a flag names what there is not.
    """
    made = Data.of({'name': 'npz', 'path': str(path), 'format': reading.format_of(path)})
    if given is None:
        return made
    columns = {}
    for each in given.columns:
        what, _, column = each.partition('=')
        if what not in csv_table.COLUMNS or not column:
            raise unknown('column', each, [f'{name}=COLUMN' for name in csv_table.COLUMNS])
        columns[what] = column
    if (columns or given.images_in or given.suffix) and made.format != 'csv':
        raise UserError(f'{path} is no CSV: leave out --columns, --images-in and --suffix.')
    return made.replace(
        columns=Columns(**columns),
        images=given.images_in,
        suffix=given.suffix,
        subfolders=given.subfolders,
        class_order=given.class_order,
        spellings=given.spellings,
        window=given.window,
        frame=given.frame,
    )
