"""CIFAR-10-LT and CIFAR-100-LT: small natural images, 10 or 100 classes, 50,000 + 10,000 images; not medical.

Krizhevsky 2009; long-tailed by Cui et al., CVPR 2019, and Cao et al. (LDAM), NeurIPS 2019. Get the *binary version* at
https://www.cs.toronto.edu/~kriz/cifar.html (cifar-10-binary.tar.gz, md5 c32a1d4ab5d03f1284b67883e8d87530;
cifar-100-binary.tar.gz, md5 03b5dce01913d631647c71ecec9e9cb8) and unpack it:

    cifar-10-batches-bin/data_batch_1.bin ... data_batch_5.bin, test_batch.bin, batches.meta.txt
    cifar-100-binary/train.bin, test.bin, fine_label_names.txt

    python -m data_prep.cifar_lt cifar10 --source DIR --out PREPARED     (or cifar100)

The Python version holds the same images in the same order as pickles, which can run any code: it is not read.

All images are prepared once; a long tail is a protocol. `exp_r100`, `exp_r50`, `exp_r10` keep floor(n (1/r)^(k/(K-1)))
training images of class k, in the official order of classes, `step_r...` all of the first half of the classes and n/r
of the others. The images are those of LDAM's code: class after class shuffled by NumPy's legacy generator with seed 0
(--seed), the first ones kept. The test part is the official balanced one.

The trap: these protocols have no validation part, and papers often choose settings on the test images. `clean_exp_r100`
and so on hold out a tenth of the training images first, the same number of every class. CIFAR also has near-duplicates
in train and test (Barz and Denzler 2020: 3 % and 10 % of the test images). No licence is given: cite the report.
"""

import argparse
import functools
import pathlib
from collections.abc import Sequence

import numpy as np

from data_prep.tools import family, parts, tool
from ltjax.data import long_tail
from ltjax.data.prepared.writing import Item
from ltjax.errors import UserError

ORIGIN = 'Get the binary version at https://www.cs.toronto.edu/~kriz/cifar.html and unpack it.'
RATIOS = (10, 50, 100)
SIDE = 32
# By set: training files, test file, names of classes, label bytes of a record (the last one counts), images of a class.
LAYOUTS: dict[str, tuple[tuple[str, ...], str, str, int, tuple[int, int]]] = {
    'cifar10': (
        tuple(f'data_batch_{k}.bin' for k in range(1, 6)),
        'test_batch.bin', 'batches.meta.txt', 1, (5000, 1000),
    ),
    'cifar100': (('train.bin',), 'test.bin', 'fine_label_names.txt', 2, (500, 100)),
}  # fmt: skip
FOLDERS = {
    'cifar10': ('cifar-10-batches-bin', 'cifar-10-batches-py'),
    'cifar100': ('cifar-100-binary', 'cifar-100-python'),
}


def ldam_selection(labels: np.ndarray, counts: Sequence[int], seed: int) -> np.ndarray:
    """Returns the rows that LDAM's code keeps: one stream of legacy random numbers, class after class."""
    rng = np.random.RandomState(seed)
    kept = []
    for k, count in enumerate(counts):
        rows = np.flatnonzero(labels == k)
        rng.shuffle(rows)
        kept.append(rows[:count])
    return np.sort(np.concatenate(kept))


def read_binary(path: pathlib.Path, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images uint8 [N, 32, 32, 3] and labels uint8 [N] of a file of the binary version."""
    record = label_bytes + 3 * SIDE * SIDE
    data = np.fromfile(path, np.uint8)
    if len(data) == 0 or len(data) % record:
        raise UserError(
            f'{path} has {len(data)} bytes, no multiple of {record}: it is cut short or not the '
            f'binary version. {ORIGIN}'
        )
    data = data.reshape(-1, record)
    planes = data[:, label_bytes:].reshape(-1, 3, SIDE, SIDE)
    return planes.transpose(0, 2, 3, 1), data[:, label_bytes - 1]


def read(name: str, source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads the binary version of one of the two sets."""
    train_files, test_file, names_file, label_bytes, published = LAYOUTS[name]
    binary, pickled = FOLDERS[name]
    if tool.look(source, names_file) is None and tool.look(source, pickled) is not None:
        raise UserError(f'{source} holds the Python version, which is pickles. {ORIGIN}')
    root = tool.look(source, binary) or source
    paths = [root / file for file in (*train_files, test_file, names_file)]
    tool.check_files(paths, ORIGIN)
    class_names = tuple(paths[-1].read_text('ascii').split())
    items: list[Item] = []
    part: dict[str, str] = {}
    for path in paths[:-1]:
        side = 'test' if path.name == test_file else 'train'
        images, labels = read_binary(path, label_bytes)
        if labels.max() >= len(class_names):
            raise UserError(f'{path} has label {labels.max()}, above {len(class_names)} classes.')
        first = sum(other == side for other in part.values())
        for row, label in enumerate(labels.tolist()):
            image = functools.partial(images.__getitem__, row)
            items.append(Item(f'{side}-{first + row:05d}', label, image))
            part[items[-1].id] = side
    for side, count in zip(('train', 'test'), published, strict=True):
        of_side = [item for item in items if part[item.id] == side]
        tool.check_counts(
            of_side, class_names, dict.fromkeys(class_names, count), arguments.partial
        )
    number = len(class_names)
    sizes = {}
    for ratio in RATIOS:
        sizes[f'exp_r{ratio}'] = functools.partial(
            long_tail.exponential_counts, num_classes=number, ratio=ratio
        )
        sizes[f'step_r{ratio}'] = functools.partial(
            long_tail.step_counts, num_classes=number, ratio=ratio
        )
    splits = parts.long_tailed(items, part, sizes, ldam_selection, arguments.seed)
    return tool.Content(class_names, items, splits)


SOURCES = {
    name: tool.Source(
        name=name,
        origin=ORIGIN,
        licence='none given; cite Krizhevsky 2009',
        read=functools.partial(read, name),
        image_size=SIDE,
        encoding='png',
    )
    for name in LAYOUTS
}

if __name__ == '__main__':
    family.run(SOURCES, 'cifar_lt', __doc__)
