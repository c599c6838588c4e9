"""Sets of the catalogue of tensorflow-datasets that lie prepared in ArrayRecord files, read without TensorFlow."""

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ltjax.data.prepared import records
from ltjax.data.reading.table import Written
from ltjax.errors import UserError

ORIGIN = 'Prepare the set with `tfds build NAME --file_format=array_record --data_dir=DIR`.'
PARTS = {'train': 'train', 'validation': 'val', 'val': 'val', 'test': 'test'}


def folders(root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the prepared sets in a folder: itself, or NAME/VERSION or NAME/CONFIG/VERSION below it."""
    patterns = ('', '*/', '*/*/', '*/*/*/')
    infos = (sorted(root.glob(f'{pattern}dataset_info.json')) for pattern in patterns)
    return [info.parent for found in infos for info in found]


def open_builder(root: pathlib.Path) -> Any:
    """Returns the builder of an image classification set, from its files alone.

    Raises:
      UserError: it is not there, or its examples are not an image and a class each.
    """
    # Imported here: it takes as long as all the rest together.
    import tensorflow_datasets as tfds
    from google.protobuf.json_format import ParseError

    found = folders(root)
    if not found:
        raise UserError(f'{root} holds no set that is prepared. {ORIGIN}')
    if len(found) > 1:
        several = ', '.join(folder.relative_to(root).as_posix() for folder in found)
        raise UserError(f'{root} has {several}: name one of them.')
    try:
        builder = tfds.builder_from_directory(found[0])
    except (ParseError, ValueError, KeyError, ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        info = found[0] / 'dataset_info.json'
        raise UserError(f'{info} cannot be opened ({reason}). {ORIGIN}') from None
    features = dict(builder.info.features or {})
    image, label = features.get('image'), features.get('label')
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise UserError(f'{root} has the features {", ".join(features)}: it needs image and label.')
    return builder


def examples(builder: Any) -> Iterator[tuple[str, Any]]:
    """Yields split and examples, images as they are encoded, of the parts that `PARTS` names.

    Raises:
      UserError: there is no part to train on, or the files have no random access.
    """
    import tensorflow_datasets as tfds

    known = [split for split in builder.info.splits if split in PARTS]
    if 'train' not in known:
        raise UserError(
            f'{builder.name} has no split `train`, but {", ".join(builder.info.splits)}.'
        )
    for split in known:
        try:
            decoders = {'image': tfds.decode.SkipDecoding()}
            yield split, builder.as_data_source(split=split, decoders=decoders)
        except NotImplementedError:
            raise UserError(
                f'{builder.data_dir} is prepared in the format {builder.info.file_format.value}, without random '
                f'access. {ORIGIN}'
            ) from None


def labels_of(builder: Any, split: str, source: Any) -> list[int]:
    """Returns the class index of every example.

    Raises:
      UserError: an example has none.
    """
    found = [int(source[row]['label']) for row in range(len(source))]
    if min(found, default=0) < 0:
        raise UserError(f'{builder.name} has no labels in its split {split}.')
    return found


def channels_of(builder: Any) -> int:
    """Returns the channels of the images: 1, or 3.

    Raises:
      UserError: they have others, or more than 8 bits.
    """
    feature = builder.info.features['image']
    channels = feature.shape[-1] or 3
    if np.dtype(feature.np_dtype) != np.uint8 or channels not in (1, 3):
        raise UserError(
            f'images of {builder.name} are {np.dtype(feature.np_dtype)} of {channels} channels: 8 bits, grey or RGB '
            'are read.'
        )
    return int(channels)


def read(
    root: pathlib.Path, conform: Callable[[np.ndarray], np.ndarray], *, image_size: int
) -> Written:
    """Opens the set in `root`; its images are read when they are asked for.

    Args:
      root: its folder, NAME/VERSION of a data_dir, or one above that has no other.
      conform: uint8 [1, H, W, C] -> [1, H', W', C'], applied to each image.
      image_size: to which `conform` brings images; 0: they stay as they are stored.

    Raises:
      UserError: see `open_builder`, `examples`; or images of several sizes, and no size to bring them to.
    """
    builder = open_builder(root)
    channels = channels_of(builder)
    if None in builder.info.features['image'].shape[:2] and not image_size:
        raise UserError(
            f'images of {root} are of several sizes: set --config.data.image_size=224, say.'
        )
    ids, labels, sides = list[str](), list[int](), list[str]()
    places = list[tuple[Any, int]]()
    for split, source in examples(builder):
        ids += [f'{split}-{row:07d}' for row in range(len(source))]
        places += [(source, row) for row in range(len(source))]
        labels += labels_of(builder, split, source)
        sides += [PARTS[split]] * len(source)

    def encoded(row: int) -> bytes:
        source, at = places[row]
        return source[at]['image']

    def decoded(data: bytes) -> np.ndarray:
        return conform(records.decode(data, channels)[np.newaxis])[0]

    names = tuple(builder.info.features['label'].names)
    left = [split for split in builder.info.splits if split not in PARTS]
    return Written(
        'tfds',
        str(root),
        ids=ids,
        pixels=records.StoredImages(encoded, np.arange(len(ids)), decoded),
        place=lambda row: f'example {ids[row]}',
        labels=[names[label] for label in labels],
        class_names=names,
        declared=True,
        splits={'official': sides} if len({*sides}) > 1 else {},
        notes=[f'splits that are left out: {", ".join(left)}'] if left else [],
        split_from=f'the splits of {builder.info.full_name}',
        published=True,
        source=json.dumps(_files(pathlib.Path(builder.data_dir))),
    )


def _files(folder: pathlib.Path) -> list[tuple[str, int]]:
    """Returns names and sizes of the files, which stand for their contents."""
    return sorted((path.name, path.stat().st_size) for path in folder.iterdir())
