"""Decodes a data set once, to train on it often: `python -m ltjax.data.prepare PATH --out SET`.

PATH is a folder of class folders, a CSV or an npz, in the layouts that training reads, with its groups, its split and
any further columns. SET becomes a prepared set, as data_prep makes them of public sets: images of one size in shards,
a table, checksums. Training on it is training on PATH, to the bit unless it is stored as JPEG, and so are audit,
prediction and evaluation. Interrupted, the same command goes on; until it is through, nothing takes SET for a whole
one. All processors decode.
"""

import argparse
import functools
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ltjax.command import called, exits, goes_on
from ltjax.data import datasets, reading
from ltjax.data.parallel import to_log
from ltjax.data.prepared import records, writing
from ltjax.data.prepared.originals import NO_STAMP, Stamp
from ltjax.data.prepared.writing import Item, Plan
from ltjax.data.reading import arguments, decoding
from ltjax.data.reading import images as image_files
from ltjax.data.reading.decoding import Decoded
from ltjax.data.reading.table import Files, Table
from ltjax.data.settings import INTERPOLATIONS, MAX_PIXELS, ON_PROBLEM, Data
from ltjax.errors import UserError
from ltjax.files import user_path


def plan(config: Data, encoding: str = 'png') -> Plan:
    """Returns what a data set shall become: a prepared set of the same images, labels, groups, columns and split.

    Args:
      config: the `data` part of a config that reads a folder, CSV or npz.
      encoding: see `records.ENCODINGS`.

    Raises:
      UserError: the set cannot be read, or could not be trained on.
    """
    table = reading.survey(config)
    if table.written.layout in ('prepared', 'tfds'):
        raise UserError(f'{table.where} is prepared already: train on it.')
    datasets.check(table)
    rows = table.kept.tolist()
    ids, labels = table.ids.tolist(), np.asarray(table.labels).tolist()
    groups = [''] * len(ids) if table.groups is None else table.groups.astype(np.str_).tolist()
    columns = {name: column.texts().tolist() for name, column in table.columns.items()}
    items = [
        Item(
            ids[row],
            labels[row],
            source,
            groups[row],
            {name: texts[row] for name, texts in columns.items()},
            stamp,
        )
        for row, (source, stamp) in zip(rows, _sources(table, rows, config), strict=True)
    ]
    splits = {
        name: {ids[row]: str(sides[row]) for row in rows if sides[row]}
        for name, sides in table.splits.items()
    }
    numbered = table.groups is not None and np.issubdtype(table.groups.dtype, np.integer)
    return Plan(
        name=pathlib.Path(table.where).stem,
        class_names=table.class_names,
        items=items,
        image_size=config.image_size,
        channels=config.channels,
        licence='',
        origin=table.where,
        splits=splits,
        encoding=encoding,
        on_damaged=config.on_damaged,
        ordered=table.ordered,
        originals=True,
        excluded={each.path: each.reason for each in table.excluded},
        about={'own': True, 'numbered_groups': bool(numbered)},
    )


def _sources(
    table: Table, rows: Sequence[int], config: Data
) -> Iterator[tuple[Callable[[], Decoded], Stamp]]:
    """Yields what reads the image of each row, and the stamp of its file."""
    pixels = table.written.pixels
    if isinstance(pixels, Files):
        for row in rows:
            name = pixels.names[row]
            yield (
                functools.partial(decoding.one, pixels.root, name, config),
                decoding.stamp_of(pixels.root, name),
            )
        return
    assert isinstance(pixels, np.ndarray)
    for row in rows:
        yield functools.partial(_of_array, table, pixels, row, config), NO_STAMP


def _of_array(table: Table, pixels: np.ndarray, row: int, config: Data) -> Decoded:
    digest = image_files.digest(pixels[row])
    image = reading.conform(pixels[row : row + 1], config)[0]
    return Decoded(pathlib.Path(str(table.ids[row])), image, digest, '', NO_STAMP)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(called('ltjax.data.prepare'), description=__doc__)
    parser.add_argument('path', type=user_path, help='a folder, .csv or .npz')
    parser.add_argument('--out', type=user_path, required=True, help='folder of the prepared set')
    parser.add_argument('--image-size', type=int, default=0, help='pixels a side; 0: as stored')
    parser.add_argument('--channels', type=int, choices=(0, 1, 3), default=0, help='0: as stored')
    parser.add_argument('--interpolation', choices=INTERPOLATIONS, default='area')
    parser.add_argument(
        '--encoding',
        choices=records.ENCODINGS,
        default='png',
        help='png: nothing is lost; jpeg (quality 95): smaller, with other pixels; raw: as png, larger, read fastest',
    )
    parser.add_argument(
        '--further', default='', help='further columns to keep, with commas between them'
    )
    parser.add_argument('--on-damaged', choices=ON_PROBLEM, default='stop')
    parser.add_argument('--on-unlabelled', choices=ON_PROBLEM, default='stop')
    parser.add_argument('--allow-outside', action='store_true', help='take images outside PATH')
    parser.add_argument('--max-pixels', type=int, default=MAX_PIXELS, help='of an image')
    parser.add_argument('--threads', type=int, default=0, help='that decode; 0: all processors')
    arguments.add(parser)
    given = parser.parse_args(argv)
    if given.image_size < 0 or given.threads < 0:
        raise UserError('--image-size and --threads should be 0 or more.')
    if given.path.is_dir() and given.out.resolve().is_relative_to(given.path.resolve()):
        raise UserError(f'{given.out} lies in the data, {given.path}: give an --out elsewhere.')
    if given.out.exists() and not given.out.is_dir():
        raise UserError(f'{given.out} is no folder: give another --out.')
    strange = given.out.is_dir() and not records.is_begun(given.out) and any(given.out.iterdir())
    if strange:
        raise UserError(f'{given.out} holds other files: give another --out, or empty it.')
    return given


@arguments.in_own_words('on_damaged', 'on_unlabelled', 'image_size')
def main(argv: Sequence[str]) -> None:
    """Reads the arguments, prepares, and says what came out and how to train on it."""
    given = parse(argv)
    config = arguments.config(given.path, given).replace(
        image_size=given.image_size,
        channels=given.channels,
        interpolation=given.interpolation,
        further=tuple(filter(None, given.further.split(','))),
        on_damaged=given.on_damaged,
        on_unlabelled=given.on_unlabelled,
        allow_outside=given.allow_outside,
        max_pixels=given.max_pixels,
    )
    with image_files.pixel_limit(config.max_pixels):
        made = plan(config, given.encoding)
        manifest = writing.write(given.out, made, threads=given.threads, report=to_log)
    for name, count in zip(manifest['class_names'], manifest['counts'], strict=True):
        print(f'{count:8d}  {name}')
    for id_, reason in manifest['excluded'].items():
        print(f'excluded: {id_}: {reason}')
    size = sum(path.stat().st_size for path in given.out.rglob('*') if path.is_file())
    height, width, channels = manifest['shape']
    print(
        f'{given.out}: {sum(manifest["counts"]):,} images of {width}x{height}x{channels}, {size / 1e9:.2g} GB'
        + ('; its split is kept' if manifest['splits'] else '')
    )
    if given.encoding == 'jpeg':
        print('note: JPEG changes pixels, so that results differ a little from those of the files')
    print(f'train: ltjax train --config=METHOD:prepared --config.data.path={given.out}')


@exits()
def cli() -> None:
    """The entry point."""
    try:
        with goes_on('the set'):
            main(sys.argv[1:])
    except KeyboardInterrupt:
        print('interrupted: the same command goes on', file=sys.stderr)
        sys.exit(130)


if __name__ == '__main__':
    cli()
