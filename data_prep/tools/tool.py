"""What the programs of this folder share: their command line, and checks that say exactly what is missing."""

import argparse
import hashlib
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ltjax.command import exits
from ltjax.data import splits as splitting
from ltjax.data.prepared import records, writing
from ltjax.data.prepared.writing import Item
from ltjax.data.reading import images as image_files
from ltjax.data.settings import ON_PROBLEM
from ltjax.errors import UserError
from ltjax.files import user_path
from ltjax.written import csv_rows, values

_NAMED = 5  # things missing that a message names

# What a protocol's name means: fractions of train, val and test, or a number of folds. Papers that hold out a test
# part alone leave nothing to choose settings on: of their training part a tenth, or one fold in five, is validation.
PROTOCOLS: dict[str, tuple[float, float, float] | int] = {
    '7_3': (0.63, 0.07, 0.3),
    '80_20': (0.64, 0.16, 0.2),
    '8_1_1': (0.8, 0.1, 0.1),
    'lmd': (0.7, 0.1, 0.2),
    '6_2_2': (0.6, 0.2, 0.2),
    '5_fold': 5,
}


INNER_FOLDS = 5
INNER = tuple(f'80_20__{fold}' for fold in range(INNER_FOLDS))  # see `draw`


class Content(NamedTuple):
    """What a program found: class names, images, and splits by protocol (see `writing.Plan`)."""

    class_names: tuple[str, ...]
    items: Sequence[Item]
    splits: Mapping[str, Mapping[str, str]]


class Source(NamedTuple):
    """A public data set.

    Attributes:
      name: of the prepared set, as in ltjax/data/catalog.py.
      origin: where to get the files, in a sentence.
      licence: under which they are published.
      read: (folder of the official files, command line) -> Content; raises UserError before any image
        is decoded if something is missing or wrong.
      image_size: pixels a side, unless --size says otherwise.
      channels: 1 or 3.
      encoding: 'png' or 'jpeg', unless --encoding says otherwise.
      ordered: whether the classes are grades, in their order.
      options: adds the program's own flags, if it has any.
    """

    name: str
    origin: str
    licence: str
    read: Callable[[pathlib.Path, argparse.Namespace], Content]
    image_size: int = 224
    channels: int = 3
    encoding: str = 'jpeg'
    ordered: bool = False
    options: Callable[[argparse.ArgumentParser], None] | None = None


@exits()
def run(source: Source, description: str, argv: Sequence[str] | None = None) -> None:
    """The command: reads and checks the official files, prepares the set, says what came out."""
    parser = argparse.ArgumentParser(
        f'python -m data_prep.{source.name}',
        description=description,
        epilog=f'Files: {source.origin} Licence: {source.licence}.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--source', type=user_path, required=True, help='the official files')
    parser.add_argument('--out', type=user_path, required=True, help='folder of the prepared set')
    parser.add_argument('--size', type=int, default=source.image_size, help='pixels a side')
    parser.add_argument('--encoding', choices=records.ENCODINGS, default=source.encoding)
    parser.add_argument('--on-damaged', choices=ON_PROBLEM, default='stop')
    parser.add_argument('--seed', type=int, default=0, help='chooses splits that are drawn')
    parser.add_argument('--partial', action='store_true', help='take fewer images than published')
    parser.add_argument('--threads', type=int, default=0, help='that decode; 0: all')
    if source.options is not None:
        source.options(parser)
    arguments = parser.parse_args(argv)
    if not arguments.source.exists():
        raise UserError(f'{arguments.source} does not exist. {source.origin}')
    content = source.read(arguments.source, arguments)
    plan = writing.Plan(
        name=source.name,
        class_names=content.class_names,
        items=content.items,
        image_size=arguments.size,
        channels=source.channels,
        licence=source.licence,
        origin=source.origin,
        splits=content.splits,
        encoding=arguments.encoding,
        on_damaged=arguments.on_damaged,
        ordered=source.ordered,
    )
    manifest = writing.write(arguments.out, plan, threads=arguments.threads)
    for name, count in zip(manifest['class_names'], manifest['counts'], strict=True):
        print(f'{count:8d}  {name}')
    for id_, reason in manifest['excluded'].items():
        print(f'excluded: {id_}: {reason}')
    print(
        f'{arguments.out}: {sum(manifest["counts"])} images; splits: {", ".join(manifest["splits"])}'
    )


def look(root: pathlib.Path, *names: str) -> pathlib.Path | None:
    """Returns the first of these files or folders in `root`, or a level or two below (archives nest), if any."""
    for name in names:
        for pattern in (name, f'*/{name}', f'*/*/{name}'):
            found = sorted(root.glob(pattern))
            if found:
                return found[0]
    return None


def find(root: pathlib.Path, name: str, origin: str) -> pathlib.Path:
    """Returns what `look` finds.

    Raises:
      UserError: it is not there.
    """
    found = look(root, name)
    if found is None:
        raise UserError(f'{root} has no {name}. {origin}')
    return found


def index_images(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the image files anywhere below `root` by their names without suffix.

    Hidden files are none (.DS_Store, and ._NAME.jpg, which is no image). Of two of one name the one that lies
    higher counts: copies of some sets hold every folder twice.
    """
    paths = sorted(
        (path for path in root.rglob('*') if path.suffix.lower() in image_files.SUFFIXES),
        key=lambda path: (len(path.parts), path),
        reverse=True,
    )
    return {path.stem: path for path in paths if not path.name.startswith('.')}


def matched(
    labels: Iterable[str], images: Mapping[str, pathlib.Path], *, partial: bool, origin: str
) -> list[str]:
    """Returns the labelled ids that have an image; says how many images have no label.

    Raises:
      UserError: a labelled image is missing (all right if `partial`), or none is there.
    """
    ids = list(labels)
    absent = [id_ for id_ in ids if id_ not in images]
    if absent and (len(absent) == len(ids) or not partial):
        more = f' and {len(absent) - _NAMED} more' if len(absent) > _NAMED else ''
        raise UserError(
            f'{len(absent)} of {len(ids)} labelled images are missing: '
            f'{", ".join(absent[:_NAMED])}{more}. {origin}'
        )
    unlabelled = len(images) - (len(ids) - len(absent))
    if unlabelled:
        print(f'{unlabelled} images without a label are left out')
    return [id_ for id_ in ids if id_ in images]


def draw(items: Sequence[Item], names: Sequence[str], seed: int) -> dict[str, dict[str, str]]:
    """Draws the splits of protocols by name (`PROTOCOLS`).

    With the prefix `clean_` the images of one group stay together; such a one is left out where no group is known.
    So is one that needs more images or groups than a part of a set has. `80_20__0` to `80_20__4` have the test part of
    `80_20`, and one fold of five of the rest for validation.
    """
    labels = np.array([item.label for item in items])
    groups = np.array([item.group for item in items])
    drawn = {}
    for name in names:
        clean = name.startswith('clean_')
        if clean and not np.any(groups != ''):
            print(f'{name} is left out: no groups are known')
            continue
        plain, inner = (*name.removeprefix('clean_').split('__'), '')[:2]
        shares, together = PROTOCOLS[plain], groups if clean else None
        try:
            if isinstance(shares, int):
                part = splitting.k_fold(labels, together, folds=shares, seed=seed).astype(str)
            else:
                part = splitting.protocol(labels, together, fractions=shares, seed=seed)
            if inner:
                rest = np.flatnonzero(part != 'test')
                own = None if together is None else together[rest]
                fold = splitting.k_fold(labels[rest], own, folds=INNER_FOLDS, seed=seed)
                part[rest] = np.where(fold == int(inner), 'val', 'train')
        except UserError as error:
            print(f'{name} is left out: {error}')
            continue
        drawn[name] = dict(zip([item.id for item in items], part.tolist(), strict=True))
    return drawn


def read_rows(
    path: pathlib.Path, columns: Sequence[str], delimiter: str = ','
) -> list[dict[str, str]]:
    """Returns the rows of a CSV that has at least `columns`.

    Raises:
      UserError: it cannot be read or lacks a column, or a row has too few or too many.
    """
    present, rows = csv_rows.rows(path, delimiter)
    absent = [column for column in columns if column not in present]
    if absent:
        raise UserError(f'{path} has no column {absent[0]!r} (it has {", ".join(present)}).')
    broken = next((row for row in rows if row.cells is None), None)
    if broken is not None:
        raise UserError(
            f'line {broken.line} of {path} has not {len(present)} columns: get it again.'
        )
    return [row.cells for row in rows if row.cells is not None]


def further(row: Mapping[str, str], columns: Mapping[str, str]) -> dict[str, str]:
    """Returns the further columns of an image, {name: the table's column}; '' where the table has none or 'unknown'."""
    found = {name: values.name(row.get(column, '')) for name, column in columns.items()}
    return {name: '' if value == 'unknown' else value for name, value in found.items()}


def check_files(paths: Sequence[pathlib.Path], origin: str) -> None:
    """Refuses a list of files of which some are missing, and names the first of them."""
    absent = [path for path in paths if not path.exists()]
    if absent:
        names = ', '.join(str(path) for path in absent[:_NAMED])
        more = f' and {len(absent) - _NAMED} more' if len(absent) > _NAMED else ''
        raise UserError(
            f'{len(absent)} of {len(paths)} images are missing: {names}{more}. {origin}'
        )


def check_counts(
    items: Sequence[Item], class_names: Sequence[str], published: Mapping[str, int], partial: bool
) -> None:
    """Refuses other numbers of images a class than were published; fewer are fine if `partial`."""
    found = Counter(class_names[item.label] for item in items)
    wrong = [
        f'{name} {found[name]}, not {count}'
        for name, count in published.items()
        if found[name] > count or (found[name] < count and not partial)
    ]
    if wrong:
        more = '' if partial else ' (a part of the set is taken with --partial)'
        raise UserError(
            f'numbers of images differ from the published ones: {"; ".join(wrong)}{more}.'
        )


def check_digest(path: pathlib.Path, expected: str) -> None:
    """Refuses a file with another checksum; 32 hexadecimal digits are an md5, 64 a sha256."""
    algorithm = {32: 'md5', 64: 'sha256'}[len(expected)]
    with path.open('rb') as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise UserError(f'{path} has the {algorithm} {found}, not {expected}: get it again.')
