"""ImageNet-LT: natural images, 1000 classes, 115,846 + 20,000 + 50,000 images; not medical.

Liu, Miao, Zhan et al., "Large-scale long-tailed recognition in an open world", CVPR 2019. The images are ImageNet's
(ILSVRC 2012, https://image-net.org: non-commercial research); the lists are linked from
https://github.com/zhmiao/OpenLongTailRecognition-OLTR. Put both into one folder:

    ImageNet_LT_train.txt, ImageNet_LT_val.txt, ImageNet_LT_test.txt        lines `train/n01440764/NAME.JPEG 0`
    train/n01440764/n01440764_190.JPEG ...
    val/n01440764/ILSVRC2012_val_00029930.JPEG ...     (or all in val/, as the official archive has them)

    python -m data_prep.imagenet_lt --source DIR --out PREPARED

`official` is the authors' split: training 1,280 to 5 images a class (Pareto, alpha 6), validation 20 a class out of
ImageNet's training images, test 50 a class, which are ImageNet's validation images. Classes with more than 100 training
images are called many-shot, below 20 few-shot. The trap: weights pretrained on ImageNet have seen all the training
images that the long tail leaves out, so that nothing fine-tuned from them is a result on this set.
"""

import argparse
import pathlib

from data_prep.tools import tool
from ltjax.data.prepared.writing import Item
from ltjax.errors import UserError

CLASSES = 1000
ORIGIN = (
    'Get ILSVRC 2012 at https://image-net.org and the lists by '
    'https://github.com/zhmiao/OpenLongTailRecognition-OLTR.'
)
LISTS = {side: f'ImageNet_LT_{side}.txt' for side in ('train', 'val', 'test')}
SIZES = {'train': 115846, 'val': 20000, 'test': 50000}
DIGESTS = {
    'train': 'efdbdad4f050237c310b2f354cf95a8b1d7c8d57a63c4ea4bb6bf2bcb012f37f',
    'val': '9af7ba688acf9532ff5845a8fb14a1e97fdc4c51ac48bc72c08ea9c3f7ff142e',
}


def read_list(path: pathlib.Path) -> dict[str, int]:
    """Returns the label by image path, in the order of the file."""
    labels: dict[str, int] = {}
    for number, line in enumerate(path.read_text('utf-8').splitlines(), 1):
        name, _, label = line.rpartition(' ')
        if not (label.isdigit() and int(label) < CLASSES and len(pathlib.Path(name).parts) >= 2):
            raise UserError(f'line {number} of {path} is not `PATH LABEL`: get it again. {ORIGIN}')
        if name in labels:
            raise UserError(f'line {number} of {path} names {name} again: get it again.')
        labels[name] = int(label)
    return labels


def read(source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads the three lists and looks for their images."""
    images: dict[str, pathlib.Path] = {}
    labels: dict[str, int] = {}
    part: dict[str, str] = {}
    synsets: dict[int, str] = {}
    for side, file in LISTS.items():
        path = tool.find(source, file, ORIGIN)
        if side in DIGESTS and not arguments.partial:
            tool.check_digest(path, DIGESTS[side])
        listed = read_list(path)
        if len(listed) != SIZES[side] and not arguments.partial:
            raise UserError(f'{path} has {len(listed)} images, not {SIZES[side]}: get it again.')
        for name, label in listed.items():
            if name in part:
                raise UserError(f'{name} is in the lists {part[name]} and {side}: get them again.')
            synset = pathlib.Path(name).parts[-2]
            if synsets.setdefault(label, synset) != synset:
                raise UserError(f'{path}: label {label} is {synsets[label]} and {synset}.')
            labels[name], part[name] = label, side
            image = locate(path.parent, name)
            if image.exists():
                images[name] = image
    ids = tool.matched(labels, images, partial=arguments.partial, origin=ORIGIN)
    items = [Item(id_, labels[id_], images[id_]) for id_ in ids]
    names = tuple(synsets.get(label, f'class {label}') for label in range(CLASSES))
    return tool.Content(names, items, {'official': {id_: part[id_] for id_ in ids}})


def locate(root: pathlib.Path, name: str) -> pathlib.Path:
    """Returns where an image of the lists lies: in the folder of its class, or beside it if there is none."""
    path = root / name
    flat = path.parent.parent / path.name
    return flat if not path.parent.exists() and flat.exists() else path


SOURCE = tool.Source(
    name='imagenet_lt',
    origin=ORIGIN,
    licence="ImageNet's terms: non-commercial research and education",
    read=read,
)

if __name__ == '__main__':
    tool.run(SOURCE, __doc__)
