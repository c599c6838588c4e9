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
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError

from data_prep.tools import parts, tool
from ltjax.data.prepared.writing import Item
from ltjax.errors import UserError

ORIGIN = 'Prepare the set with `tfds build NAME --file_format=array_record --data_dir=DIR`.'
PARTS = {'train': 'train', 'validation': 'val', 'val': 'val', 'test': 'test'}


def open_builder(name: str, source: pathlib.Path) -> Any:
    """Returns the builder of an image classification set, from its files alone.

    Raises:
      UserError: it is not there, or its examples are not an image and a class each.
    """
    infos = sorted((source / name).rglob('dataset_info.json'))
    if not infos:
        raise UserError(f'{source} has no {name} that is prepared. {ORIGIN}')
    if len(infos) > 1:
        several = ', '.join(info.parent.relative_to(source).as_posix() for info in infos)
        raise UserError(f'{source} has {several}: name one of them.')
    try:
        builder = tfds.builder_from_directory(infos[0].parent)
    except (ParseError, ValueError, KeyError, ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'{infos[0]} cannot be opened ({reason}). {ORIGIN}') from None
    features = dict(builder.info.features or {})
    image, label = features.get('image'), features.get('label')
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise UserError(f'{name} has the features {", ".join(features)}: it needs image and label.')
    return builder


def read(name: str, source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads the labels of all examples; images are decoded when they are written."""
    builder = open_builder(name, source)
    found = {split: PARTS[split] for split in builder.info.splits if split in PARTS}
    if 'train' not in found:
        raise UserError(f'{name} has no split `train`, but {", ".join(builder.info.splits)}.')
    left = [split for split in builder.info.splits if split not in PARTS]
    if left:
        print(f'the splits {", ".join(left)} are left out')
    skip = {'image': tfds.decode.SkipDecoding()}
    items: list[Item] = []
    part: dict[str, str] = {}
    for split, side in found.items():
        try:
            examples = builder.as_data_source(split=split)
            undecoded = builder.as_data_source(split=split, decoders=skip)
        except NotImplementedError:
            raise UserError(
                f'{builder.data_dir} is prepared in the format '
                f'{builder.info.file_format.value}, without random access. {ORIGIN}'
            ) from None
        for row in range(len(undecoded)):
            label = int(undecoded[row]['label'])
            if label < 0:
                raise UserError(f'{name} has no labels in its split {split}.')
            items.append(
                Item(f'{split}-{row:07d}', label, functools.partial(picture, examples, row))
            )
            part[items[-1].id] = side
    names = tuple(builder.info.features['label'].names)
    return tool.Content(names, items, parts.official(items, part, arguments.seed))


def picture(examples: Sequence[dict[str, np.ndarray]], row: int) -> np.ndarray:
    """Decodes an example as RGB."""
    image = examples[row]['image']
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        raise UserError(
            f'example {row} is {image.dtype} {image.shape}: 8 bits, grey or RGB are read.'
        )
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def run(argv: Sequence[str] | None = None) -> None:
    """The command; the first word is the set's name in the catalogue."""
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
        origin=ORIGIN,
        licence=f'see https://www.tensorflow.org/datasets/catalog/{name.partition("/")[0]}',
        read=functools.partial(read, name),
        encoding='png',
    )
    tool.run(source, __doc__, words[1:])


if __name__ == '__main__':
    run()
