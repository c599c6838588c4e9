"""Any image classification set of the catalogue of tensorflow-datasets that lies prepared on this machine.

Prepare it once where TensorFlow is installed, in a format with random access:

    tfds build cifar10 --file_format=array_record --data_dir=DIR

and then, without TensorFlow:

    python -m data_prep.tfds_set cifar10 --source DIR --out PREPARED [--size 32]        (or NAME/CONFIG, NAME/VERSION)

The catalogue (https://www.tensorflow.org/datasets/catalog) tells licence and origin of a set, its traps too: a split
there need not keep the images of a patient together. The set needs an `image` and one class `label`. The splits train,
validation and test are taken, as `official`; if one is missing `clean_official` draws validation out of train, and with
train alone `7_1_2` draws all. Splits of other names are left out.
"""

import argparse
import functools
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from data_prep.tools import parts, tool
from ltjax.data.prepared import records
from ltjax.data.prepared.writing import Item
from ltjax.data.reading import tfds_set as tfds_reader
from ltjax.errors import UserError


def read(name: str, source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads the labels of all examples; images are decoded when they are written."""
    if not tfds_reader.folders(source / name):
        raise UserError(f'{source} has no {name} that is prepared. {tfds_reader.ORIGIN}')
    builder = tfds_reader.open_builder(source / name)
    channels = tfds_reader.channels_of(builder)
    left = [split for split in builder.info.splits if split not in tfds_reader.PARTS]
    if left:
        print(f'the splits {", ".join(left)} are left out')
    items: list[Item] = []
    part: dict[str, str] = {}
    for split, examples in tfds_reader.examples(builder):
        for row, label in enumerate(tfds_reader.labels_of(builder, split, examples)):
            image = functools.partial(picture, examples, row, channels)
            items.append(Item(f'{split}-{row:07d}', label, image))
            part[items[-1].id] = tfds_reader.PARTS[split]
    names = tuple(builder.info.features['label'].names)
    return tool.Content(names, items, parts.official(items, part, arguments.seed))


def picture(examples: Sequence[dict[str, bytes]], row: int, channels: int) -> np.ndarray:
    """Decodes an example as RGB."""
    image = records.decode(examples[row]['image'], channels)
    return np.repeat(image, 3, axis=2) if channels == 1 else image


def run(argv: Sequence[str] | None = None) -> None:
    """The command; the first word is the set's name in the tfds_reader."""
    parser = argparse.ArgumentParser(
        'python -m data_prep.tfds_set',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('name', help='in the catalogue; then: --help for the rest')
    words = sys.argv[1:] if argv is None else list(argv)
    name = parser.parse_args(words[:1]).name
    source = tool.Source(
        name=name.partition('/')[0],
        origin=tfds_reader.ORIGIN,
        licence=f'see https://www.tensorflow.org/datasets/catalog/{name.partition("/")[0]}',
        read=functools.partial(read, name),
        encoding='png',
    )
    tool.run(source, __doc__, words[1:])


if __name__ == '__main__':
    run()
