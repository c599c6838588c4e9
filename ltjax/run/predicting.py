"""New images as a trained model takes them, and their labels in its numbering."""

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ltjax.data import reading
from ltjax.data.reading import arguments, npz, rules, values
from ltjax.data.reading.npz import made_up_name
from ltjax.data.reading.table import Table
from ltjax.data.settings import Data, Split
from ltjax.errors import UserError, unknown
from ltjax.files import user_path

if TYPE_CHECKING:
    from ltjax.run.trained import Trained

# Faults of a table that matter to a prediction: the others are of labels and splits, which it does not need.
_FAULTS = ('layout', 'rows', 'ids')


def read(model: 'Trained', data: Any, *, side: str = '', protocol: str = '') -> reading.Raw:
    """Reads images and brings them to the size and channels that a model was trained on.

    Args:
      model: the model.
      data: a folder, an npz, a CSV or a prepared set; or the `data` part of a config that reads one, from
        `reading.arguments.config`; or images uint8 [N, H, W, C].
      side: of the split that the files bring, 'test' or the number of a fold: these images alone; '': all.
      protocol: that split, where a prepared set has several.

    Raises:
      UserError: the data cannot be read, have no such side, or a shape that the model does not know.
    """
    if isinstance(data, str | os.PathLike):
        data = arguments.config(user_path(data))
    pixels = None if isinstance(data, Data) else np.asarray(data)
    height, width, channels = model.image_shape
    ours = model.settings.data
    config = (data if pixels is None else Data(name='npz')).replace(
        channels=channels,
        interpolation=ours.interpolation,
        allow_outside=True,  # named by whoever asks
        image_size=height if height == width else 0,
        max_pixels=ours.max_pixels,
        split=Split(protocol='none'),  # all images, on whichever side
        class_order=json.dumps(model.class_names),  # what the model knows is meant, even 'NA'
    )
    if pixels is None:
        table = reading.survey(config)
    else:
        table = rules.make(npz.written({'images': pixels}, 'the array'), config)
    table.refuse(*_FAULTS)
    if side or protocol:
        table = _of_side(table, side, protocol)
    raw = reading.read(config, table)
    if raw.images.shape[1:] != model.image_shape:
        raise UserError(
            f'images of {table.where} are {raw.images.shape[2]}x{raw.images.shape[1]}, the model takes '
            f'{width}x{height}: resize them.'
        )
    return raw


def _of_side(table: Table, side: str, protocol: str) -> Table:
    """Returns the table of the images that lie on one side of a split that the files bring."""
    if not table.splits:
        raise UserError(f'{table.where} brings no split: leave out --split and --protocol.')
    if not protocol and len(table.splits) > 1:
        raise UserError(
            f'{table.where} has the splits {", ".join(table.splits)}: choose one with --protocol.'
        )
    protocol = protocol or next(iter(table.splits))
    if protocol not in table.splits:
        raise unknown(f'split of {table.where}', protocol, table.splits)
    sides = table.splits[protocol][table.kept]
    if side not in sides or not side:
        raise unknown(f'side of the split of {table.where}', side, sorted({*sides} - {''}))
    return dataclasses.replace(table, kept=table.kept[sides == side])


def known_labels(raw: reading.Raw, class_names: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """Returns labels int32 [N] in the numbering of the model, -1 for none, and lines about how they were found.

    They are matched by the names of the classes, as `reading.values` compares names. Labels of an npz without names
    are numbers: they are the names of the model's classes where these are numbers, else places in their order.

    Raises:
      UserError: a label is none of the model's.
    """
    where = raw.table.where
    if raw.labels is None:
        return np.full(len(raw.ids), -1, np.int32), []
    place = {name: k for k, name in enumerate(class_names)}
    used = {k: raw.class_names[k] for k in np.unique(raw.labels[raw.labels >= 0]).tolist()}
    said = list[str]()
    if raw.table.written.made_up and not set(used.values()) <= set(place):
        number_of = {made_up_name(k): k for k in range(1 + max(used, default=0))}
        numbers = {k: number_of[name] for k, name in used.items()}
        if values.are_numbers(class_names):
            used = {k: str(number) for k, number in numbers.items()}
            said.append(f'labels of {where} are taken as the names of classes, which are numbers')
        else:
            place = {str(k): k for k in range(len(class_names))}
            used = {k: str(number) for k, number in numbers.items()}
            said.append(
                f'labels of {where} have no names, and are taken as places in {", ".join(class_names)}'
            )
    elif set(class_names) == {made_up_name(k) for k in range(len(class_names))}:
        whole = {k: values.whole_number(name) for k, name in used.items()}
        if used and None not in whole.values():
            said.append(f'labels of {where} are taken as the numbers of classes without names')
            used = {k: made_up_name(number or 0) for k, number in whole.items()}
    strange = values.in_natural_order({*used.values()} - set(place))
    if strange and raw.table.written.made_up:
        raise UserError(
            f'label {strange[0]} of {where} is out of range: the model knows {", ".join(class_names)}.'
        )
    if strange:
        raise UserError(
            f'{where} has the class {strange[0]!r}, the model knows {", ".join(class_names)}: rename the '
            'class, or put the images into one folder without class folders.'
        )
    numbered = np.full(len(raw.class_names) + 1, -1, np.int32)  # the last is that of no label
    for k, name in used.items():
        numbered[k] = place[name]
    return numbered[raw.labels], said
