"""ISIC 2018 task 3 = HAM10000: dermoscopy of pigmented skin lesions, 7 classes, 58 to 1.

Tschandl, Rosendahl and Kittler, Scientific Data 2018; Codella et al., 2019. Either layout will do:

    ISIC2018_Task3_Training_Input/ISIC_0024306.jpg ...        https://challenge.isic-archive.com/data/#2018
    ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv
    ISIC2018_Task3_Training_LesionGroupings.csv               (without it no clean splits)
    ISIC2018_Task3_{Validation,Test}_Input/, ..._GroundTruth/ (if there: the protocol `official`)

    HAM10000_images_part_1/, HAM10000_images_part_2/          https://doi.org/10.7910/DVN/DBW86T
    HAM10000_metadata (or .csv, or .tab)                      (beside the first layout too: further columns site, sex)

    python -m data_prep.isic2018 --source DIR --out PREPARED

The trap: 10,015 images show 7,470 lesions, so that a split by image tests on lesions it was trained on. Papers do
so: `5_fold` (AdUni), `7_3` (ProCo) and `80_20` (ALPA, which calls the set DermaMNIST); a tenth and a fifth of the
training part of the last two are validation here; `80_20__0` to `80_20__4` validate on each fifth of it in turn.
`clean_5_fold`, `clean_7_3` and `clean_80_20` keep a lesion together. Compare with papers on the former, believe
the latter.
"""

import argparse
import pathlib
from typing import NamedTuple

from data_prep.tools import one_hot, tool
from ltjax.data.prepared.writing import Item
from ltjax.errors import UserError
from ltjax.written import values

COUNTS = {'MEL': 1113, 'NV': 6705, 'BCC': 514, 'AKIEC': 327, 'BKL': 1099, 'DF': 115, 'VASC': 142}
CLASSES = tuple(COUNTS)
FURTHER = {'site': 'localization', 'sex': 'sex'}
HELD_OUT = {'Validation': 193, 'Test': 1512}
PROTOCOLS = (
    *('5_fold', 'clean_5_fold', '7_3', 'clean_7_3', '80_20', 'clean_80_20'),
    *tool.INNER,
)
ORIGIN = (
    'Get the training files of task 3 at https://challenge.isic-archive.com/data/#2018, '
    'or HAM10000 at https://doi.org/10.7910/DVN/DBW86T.'
)

_METADATA = ('HAM10000_metadata', 'HAM10000_metadata.csv', 'HAM10000_metadata.tab')


class _Files(NamedTuple):
    """Class index, lesion and file by image name."""

    labels: dict[str, int]
    lesions: dict[str, str]
    images: dict[str, pathlib.Path]


def _challenge(source: pathlib.Path, part: str) -> _Files:
    name = f'ISIC2018_Task3_{part}'
    truth = tool.find(source, f'{name}_GroundTruth.csv', ORIGIN)
    groupings = tool.look(source, f'{name}_LesionGroupings.csv')
    rows = tool.read_rows(groupings, ('image', 'lesion_id')) if groupings else []
    return _Files(
        one_hot.read(truth, CLASSES),
        {row['image']: values.name(row['lesion_id']) for row in rows},
        tool.index_images(tool.find(source, f'{name}_Input', ORIGIN)),
    )


def _rows(metadata: pathlib.Path) -> list[dict[str, str]]:
    with metadata.open(encoding='utf-8', errors='replace') as file:
        delimiter = '\t' if '\t' in file.readline() else ','
    return tool.read_rows(metadata, ('lesion_id', 'image_id', 'dx'), delimiter)


def _release(source: pathlib.Path, metadata: pathlib.Path) -> _Files:
    rows = _rows(metadata)
    strange = next((row['dx'] for row in rows if row['dx'].upper() not in CLASSES), None)
    if strange is not None:
        raise UserError(f'{metadata} has the diagnosis {strange!r}: get it again.')
    return _Files(
        {row['image_id']: CLASSES.index(row['dx'].upper()) for row in rows},
        {row['image_id']: values.name(row['lesion_id']) for row in rows},
        tool.index_images(source),
    )


def read(source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads either layout."""
    partial = arguments.partial
    metadata = tool.look(source, *_METADATA)
    if tool.look(source, 'ISIC2018_Task3_Training_GroundTruth.csv') or metadata is None:
        files = _challenge(source, 'Training')
    else:
        files = _release(source, metadata)
    rows = _rows(metadata) if metadata is not None else []
    further = {row['image_id']: tool.further(row, FURTHER) for row in rows}
    items = [item._replace(columns=further.get(item.id, {})) for item in _items(files, partial)]
    tool.check_counts(items, CLASSES, COUNTS, partial)
    splits = tool.draw(items, PROTOCOLS, arguments.seed)
    splits |= one_hot.read_splits(
        arguments.splits, CLASSES, {item.id: item.label for item in items}
    )
    official = {item.id: 'train' for item in items}
    for part, side in (('Validation', 'val'), ('Test', 'test')):
        if not tool.look(source, f'ISIC2018_Task3_{part}_GroundTruth.csv'):
            return tool.Content(CLASSES, items, splits)
        held = _items(_challenge(source, part), partial)
        if len(held) != HELD_OUT[part] and not (partial and len(held) < HELD_OUT[part]):
            raise UserError(f'{part} has {len(held)} images, not {HELD_OUT[part]}. {ORIGIN}')
        items += held
        official |= {item.id: side for item in held}
    return tool.Content(CLASSES, items, splits | {'official': official})


def _items(files: _Files, partial: bool) -> list[Item]:
    ids = tool.matched(files.labels, files.images, partial=partial, origin=ORIGIN)
    return [
        Item(id_, files.labels[id_], files.images[id_], files.lesions.get(id_, ''))
        for id_ in sorted(ids)
    ]


SOURCE = tool.Source(
    name='isic2018',
    origin=ORIGIN,
    licence='CC BY-NC 4.0',
    read=read,
    options=one_hot.add_option,
)

if __name__ == '__main__':
    tool.run(SOURCE, __doc__)
