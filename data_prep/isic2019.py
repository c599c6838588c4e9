"""ISIC 2019, and ISIC-2019-LT as LMD builds it: dermoscopy, 8 classes, 25,331 images.

Tschandl et al. 2018; Codella et al. 2018; Combalia et al. 2019. Get at https://challenge.isic-archive.com/data/#2019:

    ISIC_2019_Training_Input/ISIC_0000000.jpg, ISIC_0000017_downsampled.jpg ...   (may lie in a folder of its own name)
    ISIC_2019_Training_GroundTruth.csv
    ISIC_2019_Training_Metadata.csv      (without it no clean splits, and no further columns site and sex)

    python -m data_prep.isic2019 --source DIR --out PREPARED

`lmd_r100`, `lmd_r300`, `lmd_r500` are the sets of the LMD paper. Classes from the largest on keep n_i mu^i images; then
each is split 7:1:2. They are drawn as the authors' code draws them (seed 42, images by name), which yields the very
lists that they published for ratio 100; lists of authors' own are read with --splits DIR. The test part is imbalanced
as well: report balanced measures.

The trap: many lesions were photographed more than once, and these protocols split by image. `clean_lmd_r100` and so on
have the same images, with those of a lesion on one side; an image without a lesion_id (about 2,000) stands for itself.
`UNK` has no training image and is no class here.
"""

import argparse
import pathlib
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import train_test_split

from data_prep.tools import one_hot, tool
from ltjax.data import long_tail
from ltjax.data.prepared.writing import Item
from ltjax.written import values

COUNTS = {
    'MEL': 4522, 'NV': 12875, 'BCC': 3323, 'AK': 867, 'BKL': 2624, 'DF': 239, 'VASC': 253, 'SCC': 628,
}  # fmt: skip
CLASSES = tuple(COUNTS)
FURTHER = {'site': 'anatom_site_general', 'sex': 'sex'}
RATIOS = (100, 300, 500)
ORIGIN = 'Get the training files at https://challenge.isic-archive.com/data/#2019.'

_AUTHORS_SEED = 42


def long_tailed(labels: Sequence[int], ids: Sequence[str], ratio: float) -> dict[str, str]:
    """Draws ISIC-2019-LT as the authors' code does.

    Args:
      labels: class index of every image.
      ids: their names, in ascending order, as the official table lists them.
      ratio: imbalance ratio to reach.

    Returns:
      'train', 'val' or 'test' by id, of the images that are kept.
    """
    names = np.asarray(ids)
    kept = long_tail.decayed_counts(np.bincount(labels), ratio)
    split: dict[str, str] = {}
    for k, count in enumerate(kept):
        members = names[np.asarray(labels) == k]
        # The legacy generator: what pandas' DataFrame.sample(random_state=42) takes its rows from.
        order = np.random.RandomState(_AUTHORS_SEED).permutation(len(members))
        train, rest = train_test_split(
            members[order[:count]], test_size=0.3, random_state=_AUTHORS_SEED
        )
        test, val = train_test_split(rest, test_size=1 / 3, random_state=_AUTHORS_SEED)
        for side, some in (('train', train), ('val', val), ('test', test)):
            split |= dict.fromkeys(some.tolist(), side)
    return split


def read(source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads the training files of the challenge."""
    truth = tool.find(source, 'ISIC_2019_Training_GroundTruth.csv', ORIGIN)
    labels = one_hot.read(truth, CLASSES, drop=('UNK',))
    metadata = tool.look(source, 'ISIC_2019_Training_Metadata.csv')
    rows = tool.read_rows(metadata, ('image', 'lesion_id')) if metadata else []
    lesions = {row['image']: values.name(row['lesion_id']) for row in rows}
    further = {row['image']: tool.further(row, FURTHER) for row in rows}
    images = tool.index_images(tool.find(source, 'ISIC_2019_Training_Input', ORIGIN))
    ids = sorted(tool.matched(labels, images, partial=arguments.partial, origin=ORIGIN))
    items = [
        Item(id_, labels[id_], images[id_], lesions.get(id_, ''), further.get(id_, {}))
        for id_ in ids
    ]
    tool.check_counts(items, CLASSES, COUNTS, arguments.partial)
    splits = one_hot.read_splits(arguments.splits, CLASSES, {id_: labels[id_] for id_ in ids})
    if len(items) < sum(COUNTS.values()):
        print('the long-tailed sets are left out: they are drawn from all images')
        return tool.Content(CLASSES, items, splits)
    for ratio in RATIOS:
        name = f'lmd_r{ratio}'
        splits[name] = long_tailed([item.label for item in items], ids, ratio)
        kept = [item for item in items if item.id in splits[name]]
        for clean, split in tool.draw(kept, ('clean_lmd',), arguments.seed).items():
            splits[f'{clean}_r{ratio}'] = split
    return tool.Content(CLASSES, items, splits)


SOURCE = tool.Source(
    name='isic2019',
    origin=ORIGIN,
    licence='CC BY-NC 4.0',
    read=read,
    options=one_hot.add_option,
)

if __name__ == '__main__':
    tool.run(SOURCE, __doc__)
