"""Hyper-Kvasir's labelled images: endoscopy of the gut, 23 findings, 10,662 images, 191 to 1.

Borgli et al., Scientific Data 2020. Get hyper-kvasir-labeled-images.zip at https://datasets.simula.no/hyper-kvasir, and
if you like the tables of https://github.com/simula/hyper-kvasir/tree/master/official_splits beside it:

    labeled-images/<tract>/<category>/<finding>/<uuid>.jpg
    labeled-images/image-labels.csv              (checked against the folders if it is there)
    2_fold_split.csv, 5_fold_split.csv           (if there: `official_2_fold`, `official_5_fold`)

    python -m data_prep.hyper_kvasir --source DIR --out PREPARED

`8_1_1` is the split of the LMD paper, drawn as its code draws it (seed 42, images by path): the very lists its authors
published. The official tables spell eight findings differently (`SPELLINGS`); both spellings mean the same class here.

The traps: images are frames of examinations, and neither video nor patient of a labelled image is published, so all
these splits test on near-copies of what they trained on. `clean_8_1_1` and `clean_5_fold` keep near-duplicates
together (see ltjax/data/near_duplicates.py), which is the best that can be done, and less than a split by patient.
Hemorrhoids have six images and ileum nine: their recall says nothing. The licence is CC BY 4.0; the authors ask for
their permission before commercial use and competitions.
"""

import argparse
import pathlib
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import train_test_split

from data_prep.tools import groups, tool
from ltjax.data.prepared.writing import Item
from ltjax.errors import UserError

COUNTS = {
    'barretts': 41, 'barretts-short-segment': 53, 'bbps-0-1': 646, 'bbps-2-3': 1148, 'cecum': 1009,
    'dyed-lifted-polyps': 1002, 'dyed-resection-margins': 989, 'esophagitis-a': 403, 'esophagitis-b-d': 260,
    'hemorrhoids': 6, 'ileum': 9, 'impacted-stool': 131, 'polyps': 1028, 'pylorus': 999,
    'retroflex-rectum': 391, 'retroflex-stomach': 764, 'ulcerative-colitis-grade-0-1': 35,
    'ulcerative-colitis-grade-1': 201, 'ulcerative-colitis-grade-1-2': 11, 'ulcerative-colitis-grade-2': 443,
    'ulcerative-colitis-grade-2-3': 28, 'ulcerative-colitis-grade-3': 133, 'z-line': 932,
}  # fmt: skip
CLASSES = tuple(COUNTS)
SPELLINGS = {
    'normal-cecum': 'cecum',
    'normal-pylorus': 'pylorus',
    'normal-z-line': 'z-line',
    'polyp': 'polyps',
    'oesophagitis-a': 'esophagitis-a',
    'oesophagitis-b-d': 'esophagitis-b-d',
    'short-segment-barretts': 'barretts-short-segment',
    'hemorroids': 'hemorrhoids',
}
ORIGIN = 'Get hyper-kvasir-labeled-images.zip at https://datasets.simula.no/hyper-kvasir.'

_AUTHORS_SEED = 42


def authors_split(labels: Sequence[int]) -> np.ndarray:
    """Returns 'train', 'val' or 'test' of every image, str [N], as LMD's code draws it; images are sorted by path."""
    classes = np.asarray(labels)
    # The legacy generator: what pandas' DataFrame.sample(random_state=42) shuffles rows with.
    rows = np.random.RandomState(_AUTHORS_SEED).permutation(len(classes))
    named = np.full(len(classes), 'train', '<U5')
    for side, share in (('test', 0.1), ('val', 1 / 9)):
        rows, held = train_test_split(
            rows, test_size=share, random_state=_AUTHORS_SEED, stratify=classes[rows]
        )
        named[held] = side
    return named


def _findings(path: pathlib.Path, images: str, findings: str, delimiter: str) -> dict[str, str]:
    """Returns the findings, as the folders spell them, by image without suffix."""
    rows = tool.read_rows(path, (images, findings), delimiter)
    found = {
        row[images].removesuffix('.jpg'): SPELLINGS.get(row[findings], row[findings])
        for row in rows
    }
    strange = next((name for name in found.values() if name not in CLASSES), None)
    if strange is not None:
        raise UserError(f'{path} has the finding {strange!r}, which is none of the 23.')
    return found


def _agree(path: pathlib.Path, found: dict[str, str], items: Sequence[Item], partial: bool) -> None:
    """Refuses a table that names other images, or other findings, than the folders."""
    for item in items:
        if found.get(item.id) != CLASSES[item.label]:
            other = found.get(item.id, 'not there')
            raise UserError(f'{item.id} lies in {CLASSES[item.label]}; in {path} it is {other}.')
    tool.matched(found, {item.id: path for item in items}, partial=partial, origin=ORIGIN)


def read(source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads the folders of findings and the tables beside them."""
    root = tool.find(source, 'labeled-images', ORIGIN)
    # By tract, category, finding and name, as the official table is sorted.
    paths = sorted(tool.index_images(root).values(), key=lambda path: path.parts)
    paths = [path for path in paths if path.parent.name in CLASSES]
    if not paths:
        raise UserError(f'{root} has no images in folders of findings. {ORIGIN}')
    items = [Item(path.stem, CLASSES.index(path.parent.name), path) for path in paths]
    labels = tool.look(source, 'image-labels.csv')
    if labels is not None:
        _agree(labels, _findings(labels, 'Video file', 'Finding', ','), items, arguments.partial)
    tool.check_counts(items, CLASSES, COUNTS, arguments.partial)
    ids = [item.id for item in items]
    splits = {}
    if len(items) == sum(COUNTS.values()):
        parts = authors_split([item.label for item in items])
        splits['8_1_1'] = dict(zip(ids, parts.tolist(), strict=True))
    for folds in (2, 5):
        path = tool.look(source, f'{folds}_fold_split.csv')
        if path is not None:
            _agree(path, _findings(path, 'file-name', 'class-name', ';'), items, arguments.partial)
            rows = tool.read_rows(path, ('file-name', 'split-index'), ';')
            fold = {row['file-name'].removesuffix('.jpg'): row['split-index'] for row in rows}
            splits[f'official_{folds}_fold'] = {id_: fold[id_] for id_ in ids}
    group = groups.of_near_duplicates({path.stem: path for path in paths}, arguments.threads)
    items = [item._replace(group=group[item.id]) for item in items]
    splits |= tool.draw(items, ('clean_8_1_1', 'clean_5_fold'), arguments.seed)
    return tool.Content(CLASSES, items, splits)


SOURCE = tool.Source(
    name='hyper_kvasir',
    origin=ORIGIN,
    licence='CC BY 4.0 (ask the authors before commercial use)',
    read=read,
)

if __name__ == '__main__':
    tool.run(SOURCE, __doc__)
