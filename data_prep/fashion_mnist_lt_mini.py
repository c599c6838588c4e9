"""Builds the embedded Fashion-MNIST-LT mini set, byte for byte.

Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017; MIT licence) is not a medical set: it is here because it is real, small,
hard enough in its tail, and free to ship. Get the four official files from Debian's package
`dataset-fashion-mnist` (they land in /usr/share/datasets/fashion-mnist), then

    python -m data_prep.fashion_mnist_lt_mini --source DIR --out ltjax/data/embedded

With `--tuning FILE.npz` it writes, in place of the embedded set, one to choose settings on: the same training and
validation images, and as its test part 500 images a class out of what both left of the official training images.
The test part of the embedded set is never looked at so, and 5,000 images leave less noise than the 500 of `val`.

- train: 1000 down to 10 images a class, exponentially, in a class order that puts the hard classes into the tail
  (in label order the tail would be shoes and bags, which any classifier gets right);
- val: 50 images a class, out of what train left of the official training images;
- test: 200 images a class of the official test images.
"""

import argparse
import gzip
import hashlib
import io
import pathlib
import zipfile

import numpy as np

from ltjax.command import exits
from ltjax.data import long_tail
from ltjax.errors import UserError
from ltjax.files import user_path

SOURCES = {
    'train-images-idx3-ubyte.gz': 'b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7',
    't10k-images-idx3-ubyte.gz': 'cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa',
    'train-labels-idx1-ubyte.gz': '0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056',
    't10k-labels-idx1-ubyte.gz': '8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05',
}
CLASS_NAMES = (
    'T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat',
    'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot',
)  # fmt: skip
HEAD_TO_TAIL = (9, 8, 1, 7, 5, 3, 0, 2, 4, 6)  # hard classes (Shirt, Coat, Pullover) last
MAX_COUNT, RATIO = 1000, 100
VAL_PER_CLASS, TEST_PER_CLASS, TUNING_PER_CLASS = 50, 200, 500
SEED = 0


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Reads one gzipped idx file: images uint8 [N, 28, 28] or labels uint8 [N]."""
    data = gzip.decompress(path.read_bytes())
    dimensions = data[3]
    shape = np.frombuffer(data, '>i4', count=dimensions, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def check_sources(source: pathlib.Path) -> None:
    """Raises UserError if an official file is missing or is not the published one."""
    for name, checksum in SOURCES.items():
        path = source / name
        if not path.is_file():
            raise UserError(f'{path} is missing: install dataset-fashion-mnist or give --source')
        if hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            raise UserError(f'{path} is not the official file: its sha256 should be {checksum}')


def select(labels: np.ndarray, counts: dict[int, int], rng: np.random.Generator) -> np.ndarray:
    """Returns sorted indices of counts[k] images of each class k, drawn by `rng`."""
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in sorted(counts.items())
    ]
    return np.sort(np.concatenate(chosen))


def build(source: pathlib.Path, *, tuning: bool = False) -> dict[str, np.ndarray]:
    """Returns the arrays of the set: images, labels, split, ids, class_names.

    With `tuning` the test part holds official training images that are in no other part.
    """
    train_images = read_idx(source / 'train-images-idx3-ubyte.gz')
    train_labels = read_idx(source / 'train-labels-idx1-ubyte.gz')
    test_images = read_idx(source / 't10k-images-idx3-ubyte.gz')
    test_labels = read_idx(source / 't10k-labels-idx1-ubyte.gz')

    rng = np.random.Generator(np.random.PCG64(SEED))
    sizes = long_tail.exponential_counts(MAX_COUNT, len(CLASS_NAMES), RATIO)
    train = select(train_labels, dict(zip(HEAD_TO_TAIL, sizes, strict=True)), rng)
    left = train_labels.astype(np.int16)
    left[train] = -1
    val = select(left, dict.fromkeys(range(len(CLASS_NAMES)), VAL_PER_CLASS), rng)
    origin, test_size = 'test', TEST_PER_CLASS
    if tuning:
        left[val] = -1
        origin, test_size, test_images, test_labels = 'train', TUNING_PER_CLASS, train_images, left
    test = select(test_labels, dict.fromkeys(range(len(CLASS_NAMES)), test_size), rng)

    ids = [f'train-{i:05d}' for i in (*train, *val)] + [f'{origin}-{i:05d}' for i in test]
    return {
        'images': np.concatenate([train_images[train], train_images[val], test_images[test]]),
        'labels': np.concatenate(
            [train_labels[train], train_labels[val], test_labels[test]]
        ).astype(np.uint8),
        'split': np.repeat(['train', 'val', 'test'], [len(train), len(val), len(test)]),
        'ids': np.array(ids),
        'class_names': np.array(CLASS_NAMES),
    }


def write_npz(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes a compressed npz whose bytes depend on the arrays alone (fixed dates, fixed order)."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f'{name}.npy')
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


@exits()
def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('--source', default='/usr/share/datasets/fashion-mnist', type=user_path)
    parser.add_argument('--out', default='ltjax/data/embedded', type=user_path)
    parser.add_argument('--tuning', type=user_path, help='write a set to choose settings on')
    arguments = parser.parse_args()
    check_sources(arguments.source)
    arrays = build(arguments.source, tuning=arguments.tuning is not None)
    path = arguments.tuning or arguments.out / 'fashion_mnist_lt_mini.npz'
    path.parent.mkdir(parents=True, exist_ok=True)
    write_npz(path, arrays)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f'{path}: {len(arrays["labels"])} images, {path.stat().st_size} bytes, sha256 {digest}')


if __name__ == '__main__':
    main()
