"""The ISIC Archive's 14 diagnoses of the LMD paper: dermoscopy, 25,020 images, 920 to 1 (Ju et al., MICCAI 2022).

There is no official package: it is a set of searches in the archive, one a diagnosis, of which the first N hits count
(N: `COUNTS`). With `isic image download` (https://pypi.org/project/isic-cli), each time into the same folder, and its
metadata.csv renamed afterwards:

    DIR/ISIC_0000000.jpg, ISIC_0073231.JPG ...
    DIR/NV.csv, MEL.csv, BCC.csv ...         at least the column `isic_id`

    python -m data_prep.isic_archive --source DIR --out PREPARED --splits AUTHORS

The traps: the archive changes (its field `diagnosis` became `diagnosis_1` to `diagnosis_5`), so that today's first hits
are not the authors'. Only their lists, read with --splits, are their set: protocol `authors`. `lmd` is a new draw with
their sizes: 7:1:2 of every class. `clean_lmd` keeps images of one patient or lesion together where the metadata say so.
Most of these images are also in ISIC 2019 and HAM10000: never train on the one and test on the other. Test classes of
three images (AN, AMP) move recall by 33 points an image.
"""

import argparse
import pathlib

import numpy as np

from data_prep.tools import one_hot, tool
from ltjax.data import long_tail, near_duplicates
from ltjax.data.prepared.writing import Item
from ltjax.errors import UserError
from ltjax.written import values

COUNTS = {
    'AK': 869, 'AMP': 14, 'AN': 15, 'BCC': 3393, 'BKL': 384, 'DF': 246, 'LK': 32,
    'LS': 27, 'MEL': 4522, 'NV': 12875, 'SCC': 656, 'SK': 1464, 'SL': 270, 'VASC': 253,
}  # fmt: skip
CLASSES = tuple(COUNTS)
DIAGNOSES = {
    'AK': 'actinic keratosis',
    'AMP': 'atypical melanocytic proliferation',
    'AN': 'angioma',
    'BCC': 'basal cell carcinoma',
    'BKL': 'pigmented benign keratosis',
    'DF': 'dermatofibroma',
    'LK': 'lichenoid keratosis',
    'LS': 'lentigo simplex',
    'MEL': 'melanoma',
    'NV': 'nevus',
    'SCC': 'squamous cell carcinoma',
    'SK': 'seborrheic keratosis',
    'SL': 'solar lentigo',
    'VASC': 'vascular lesion',
}
ORIGIN = 'Search https://www.isic-archive.com for each diagnosis (python -m data_prep.isic_archive --help).'

_BELONGS_TO = ('patient_id', 'lesion_id')


def read(source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads one table a diagnosis and the images beside it."""
    tables = {code: tool.look(source, f'{code}.csv') for code in CLASSES}
    absent = [f'{code}.csv ({DIAGNOSES[code]})' for code, path in tables.items() if path is None]
    if absent and (len(absent) == len(tables) or not arguments.partial):
        raise UserError(f'{source} has no {", ".join(absent)}. {ORIGIN}')
    labels: dict[str, int] = {}
    owners: dict[str, list[str]] = {}
    for label, path in enumerate(tables.values()):
        for row in tool.read_rows(path, ('isic_id',)) if path else ():
            id_ = row['isic_id']
            if id_ in labels:
                raise UserError(f'{path}: {id_} is also in {CLASSES[labels[id_]]}.csv: remove one.')
            labels[id_] = label
            owners[id_] = [values.name(row.get(name, '')) for name in _BELONGS_TO]
    images = tool.index_images(source)
    ids = sorted(tool.matched(labels, images, partial=arguments.partial, origin=ORIGIN))
    together = near_duplicates.Clusters(len(ids))
    for keys in zip(*(owners[id_] for id_ in ids), strict=True):
        together.join_equal(np.array(keys))
    items = [
        Item(id_, labels[id_], images[id_], ids[first] if any(owners[id_]) else '')
        for id_, first in zip(ids, together.labels().tolist(), strict=True)
    ]
    tool.check_counts(items, CLASSES, COUNTS, arguments.partial)
    splits = one_hot.read_splits(arguments.splits, CLASSES, {id_: labels[id_] for id_ in ids})
    splits['lmd'] = long_tail.lmd_split(
        [item.label for item in items], ids, ratio=None, seed=arguments.seed
    )
    splits |= tool.draw(items, ('clean_lmd',), arguments.seed)
    return tool.Content(CLASSES, items, splits)


SOURCE = tool.Source(
    name='isic_archive',
    origin=ORIGIN,
    licence='CC0, CC BY or CC BY-NC, as the metadata say of each image',
    read=read,
    options=one_hot.add_option,
)

if __name__ == '__main__':
    tool.run(SOURCE, __doc__)
