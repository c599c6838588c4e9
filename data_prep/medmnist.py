"""MedMNIST: eleven sets of small medical images, each with an official split.

Yang et al., Scientific Data 2023. Get NAME.npz (28 px), NAME_64.npz, NAME_128.npz or NAME_224.npz at https://medmnist.com
(Zenodo 10519652); the md5 of 28 px files is checked.

    python -m data_prep.medmnist bloodmnist --source DIR --out PREPARED [--size 64]

A file is read whole into memory (TissueMNIST at 224 px: 12 GB). ChestMNIST has several labels an image and the members
in 3D have volumes: they are refused. `official` is the published split.

Traps. DermaMNIST is HAM10000, and images of one lesion lie in its train, val and test parts: results on it are too good
(Abhishek et al., Scientific Data 2025, who publish corrected splits); for a split by lesion prepare the original with
data_prep.isic2018. It is CC BY-NC 4.0, the others are CC BY 4.0. The labels of RetinaMNIST are ordinal. The Organ sets
are views of the same patients' volumes: never train on one and test on another.
"""

import argparse
import functools
import pathlib
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

from data_prep.tools import family, tool
from ltjax.data.prepared.writing import Item
from ltjax.errors import UserError

ORIGIN = 'Get the npz at https://medmnist.com.'
SIDES = (28, 64, 128, 224)
PARTS = ('train', 'val', 'test')


class Member(NamedTuple):
    """One set: the md5 of its 28 px file, channels, images of train, val and test, class names."""

    md5: str
    channels: int
    sizes: tuple[int, int, int]
    class_names: tuple[str, ...]


_ORGANS = (
    'bladder', 'femur-left', 'femur-right', 'heart', 'kidney-left', 'kidney-right', 'liver',
    'lung-left', 'lung-right', 'pancreas', 'spleen',
)  # fmt: skip
MEMBERS = {
    'pathmnist': Member('a8b06965200029087d5bd730944a56c1', 3, (89996, 10004, 7180), (
        'adipose', 'background', 'debris', 'lymphocytes', 'mucus', 'smooth muscle',
        'normal colon mucosa', 'cancer-associated stroma', 'colorectal adenocarcinoma epithelium',
    )),
    'dermamnist': Member('0744692d530f8e62ec473284d019b0c7', 3, (7007, 1003, 2005), (
        'actinic keratosis', 'basal cell carcinoma', 'benign keratosis', 'dermatofibroma',
        'melanoma', 'melanocytic nevus', 'vascular lesion',
    )),
    'octmnist': Member('c68d92d5b585d8d81f7112f81e2d0842', 1, (97477, 10832, 1000), (
        'choroidal neovascularization', 'diabetic macular edema', 'drusen', 'normal',
    )),
    'pneumoniamnist': Member('28209eda62fecd6e6a2d98b1501bb15f', 1, (4708, 524, 624), (
        'normal', 'pneumonia',
    )),
    'retinamnist': Member('bd4c0672f1bba3e3a89f0e4e876791e4', 3, (1080, 120, 400), tuple('01234')),
    'breastmnist': Member('750601b1f35ba3300ea97c75c52ff8f6', 1, (546, 78, 156), (
        'malignant', 'normal or benign',
    )),
    'bloodmnist': Member('7053d0359d879ad8a5505303e11de1dc', 3, (11959, 1712, 3421), (
        'basophil', 'eosinophil', 'erythroblast', 'immature granulocyte', 'lymphocyte', 'monocyte',
        'neutrophil', 'platelet',
    )),
    'tissuemnist': Member('ebe78ee8b05294063de985d821c1c34b', 1, (165466, 23640, 47280), (
        'collecting duct, connecting tubule', 'distal convoluted tubule',
        'glomerular endothelial cell', 'interstitial endothelial cell', 'leukocyte', 'podocyte',
        'proximal tubule segment', 'thick ascending limb',
    )),
    'organamnist': Member('68e3f8846a6bd62f0c9bf841c0d9eacc', 1, (34561, 6491, 17778), _ORGANS),
    'organcmnist': Member('b9ceb9546e10131b32923c5bbeaea2b1', 1, (12975, 2392, 8216), _ORGANS),
    'organsmnist': Member('9ab87b696fb54e2a387ebe992d6ed5f1', 1, (13932, 2452, 8827), _ORGANS),
}  # fmt: skip
_SOLID = ('organ', 'nodule', 'adrenal', 'fracture', 'vessel', 'synapse')
REFUSED = {
    'chestmnist': '14 labels an image, where ltjax takes one',
    **{f'{name}mnist3d': 'volumes in place of images' for name in _SOLID},
}


def read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the six arrays of a file of MedMNIST."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {
                f'{p}_{kind}': archive[f'{p}_{kind}']
                for p in PARTS
                for kind in ('images', 'labels')
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f'{path} is no npz of MedMNIST ({error}): get it again. {ORIGIN}') from None


def read(name: str, source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads the npz of one member at the size asked for."""
    if name in REFUSED:
        raise UserError(f'{name} has {REFUSED[name]}: choose one of {", ".join(MEMBERS)}.')
    member, side = MEMBERS[name], arguments.size
    if side not in SIDES:
        raise UserError(f'--size {side}: MedMNIST comes in {", ".join(map(str, SIDES))} pixels.')
    path = tool.find(source, f'{name}.npz' if side == 28 else f'{name}_{side}.npz', ORIGIN)
    if side == 28 and not arguments.partial:
        tool.check_digest(path, member.md5)
    arrays = read_npz(path)
    items: list[Item] = []
    split: dict[str, str] = {}
    for part, size in zip(PARTS, member.sizes, strict=True):
        images, labels = arrays[f'{part}_images'], arrays[f'{part}_labels']
        count = len(images)
        shape = (count, side, side) if member.channels == 1 else (count, side, side, 3)
        if images.dtype != np.uint8 or images.shape != shape or labels.shape != (count, 1):
            raise UserError(
                f'{path}: {part} has images {images.dtype} {images.shape} and labels {labels.shape}, '
                f'not uint8 {shape} and {(count, 1)}: get it again. {ORIGIN}'
            )
        if count > size or (count < size and not arguments.partial):
            raise UserError(f'{path} has {count} images of {part}, not {size}: get it again.')
        for row, label in enumerate(labels[:, 0].tolist()):
            image = functools.partial(_picture, images, row)
            items.append(Item(f'{part}-{row:06d}', label, image))
            split[items[-1].id] = part
    if name == 'dermamnist':
        print('warning: DermaMNIST has images of one lesion in train, val and test: say so')
    return tool.Content(member.class_names, items, {'official': split})


def _picture(images: np.ndarray, row: int) -> np.ndarray:
    return images[row] if images.ndim == 4 else images[row, :, :, np.newaxis]


SOURCES = {
    name: tool.Source(
        name=name,
        origin=ORIGIN,
        licence='CC BY-NC 4.0' if name == 'dermamnist' else 'CC BY 4.0',
        read=functools.partial(read, name),
        image_size=28,
        channels=MEMBERS[name].channels if name in MEMBERS else 1,
        encoding='png',
    )
    for name in (*MEMBERS, *REFUSED)
}

if __name__ == '__main__':
    family.run(SOURCES, 'medmnist', __doc__)
