"""Fashion-MNIST and its long-tailed versions: clothes, 28 px grey, 10 classes, 60,000 + 10,000 images; not medical.

Xiao, Rasul and Vollgraf 2017; MIT licence. Get the four official idx.gz files from Debian's package
`dataset-fashion-mnist` (they land in /usr/share/datasets/fashion-mnist) or github.com/zalandoresearch/fashion-mnist.
Their sha256 are checked.

    python -m data_prep.fashion_mnist_lt --source /usr/share/datasets/fashion-mnist --out PREPARED

`exp_r100` keeps 6000, 3596, ... 60 = 14,886 training images, in the order of labels, and the official test part. The
trap: that order puts Sneaker, Bag and Ankle boot, which any classifier gets right, into the tail. `hard_tail_r100` has
the same sizes with the hard classes (Pullover, Coat, Shirt) last, as the embedded mini set. Neither has a validation
part; `clean_exp_r100` and `clean_hard_tail_r100` hold out a tenth of the training images first, of every class 600.
"""

import argparse
import functools
import pathlib

import numpy as np

from data_prep import fashion_mnist_lt_mini as mini
from data_prep.tools import parts, tool
from ltjax.data import long_tail
from ltjax.data.prepared.writing import Item

RATIO = 100
FILES = {'train': 'train', 'test': 't10k'}  # by part, how its files' names begin


def label_order(max_count: int) -> list[int]:
    """Returns training images of every class, falling in the order of labels."""
    return long_tail.exponential_counts(max_count, len(mini.CLASS_NAMES), RATIO)


def hard_tail(max_count: int) -> list[int]:
    """Returns training images of every class, the hard classes last."""
    counts = np.zeros(len(mini.CLASS_NAMES), np.int64)
    counts[list(mini.HEAD_TO_TAIL)] = label_order(max_count)
    return counts.tolist()


def read(source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads the four official files."""
    mini.check_sources(source)
    items: list[Item] = []
    part: dict[str, str] = {}
    for side, start in FILES.items():
        images = mini.read_idx(source / f'{start}-images-idx3-ubyte.gz')[..., np.newaxis]
        labels = mini.read_idx(source / f'{start}-labels-idx1-ubyte.gz')
        for row, label in enumerate(labels.tolist()):
            image = functools.partial(images.__getitem__, row)
            items.append(Item(f'{side}-{row:05d}', label, image))
            part[items[-1].id] = side
    sizes = {f'exp_r{RATIO}': label_order, f'hard_tail_r{RATIO}': hard_tail}
    splits = parts.long_tailed(items, part, sizes, long_tail.subsample, arguments.seed)
    return tool.Content(mini.CLASS_NAMES, items, splits)


SOURCE = tool.Source(
    name='fashion_mnist_lt',
    origin="Get Debian's package dataset-fashion-mnist, or github.com/zalandoresearch/fashion-mnist.",
    licence='MIT',
    read=read,
    image_size=28,
    channels=1,
    encoding='png',
)

if __name__ == '__main__':
    tool.run(SOURCE, __doc__)
