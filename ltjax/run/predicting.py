"""New images as a trained model takes them, part by part, and their labels in its numbering."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltjax.data import parallel, reading
from ltjax.data.reading import arguments, decoding, npz, rules
from ltjax.data.reading import images as image_files
from ltjax.data.reading.decoding import Decoded
from ltjax.data.reading.npz import made_up_name
from ltjax.data.reading.table import Excluded, Files, Table
from ltjax.data.settings import Data, Split
from ltjax.errors import UserError, unknown
from ltjax.files import user_path
from ltjax.written import values

# Faults of a table that matter to a prediction: the others are of labels and splits, which it does not need.
_FAULTS = ('layout', 'rows', 'ids')


class Part(NamedTuple):
    """Some of the images of a source that can be read, one after the other.

    Attributes:
      rows: int64 [n], of the table.
      images: uint8 [n, H, W, C], of the size and channels of the model.
      digests: str [n], see `images.digest`, of the pixels before they were resized.
      damaged: images between them that cannot be read.
      stop: the place in `Source.rows` after them.
    """

    rows: np.ndarray
    images: np.ndarray
    digests: np.ndarray
    damaged: tuple[Excluded, ...]
    stop: int


@dataclasses.dataclass(frozen=True)
class Source:
    """Images that a model is to be applied to; none of them is read yet.

    Attributes:
      table: what is said of them.
      config: how they are read.
      rows: int64 [N], of the table, ascending.
      image_shape: height, width and channels that the model takes.
    """

    table: Table
    config: Data
    rows: np.ndarray
    image_shape: tuple[int, int, int]

    @property
    def ids(self) -> np.ndarray:
        """Str [N]."""
        return self.table.ids[self.rows]

    @property
    def labels(self) -> np.ndarray | None:
        """Int32 [N], places in `table.class_names`, -1 where there is none; None if no image has one."""
        return None if self.table.labels is None else self.table.labels[self.rows]

    @property
    def groups(self) -> np.ndarray | None:
        """Str [N], '' where there is none; None if no image has one."""
        return None if self.table.groups is None else self.table.groups[self.rows].astype(np.str_)

    def of(self, rows: np.ndarray) -> 'Source':
        """Returns the same with some of the rows."""
        return dataclasses.replace(self, rows=rows)

    def stamps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Returns the stamps of the images' files from one place in `rows` to before another, or that of their npz."""
        pixels = self.table.written.pixels
        if isinstance(pixels, np.ndarray) and self.config.path:
            return [decoding.stamp(user_path(self.config.path))]
        if not isinstance(pixels, Files):
            return []
        rows = self.rows[start:stop].tolist()
        return [decoding.stamp_of(pixels.root, pixels.names[row]) for row in rows]

    def parts(
        self, size: int, start: int, lost: Sequence[Excluded], progress: parallel.Progress
    ) -> Iterator[Part]:
        """Yields the images in their order, `size` a part but the last.

        Args:
          size: images.
          start: place in `rows` to begin at.
          lost: images before it that cannot be read.
          progress: is told of each image.

        Raises:
          UserError: images cannot be read (all are tried) and may not be left out, or have another shape than the
            model takes.
        """
        pixels = self.table.written.pixels
        if isinstance(pixels, Files):
            yield from self._of_files(pixels, size, start, lost, progress)
            return
        for at in range(start, len(self.rows), size):
            rows = self.rows[at : at + size]
            known = self.table.written.digests
            if isinstance(pixels, np.ndarray):
                stored = npz.some(pixels, rows)
                images = reading.conform(stored, self.config)
            else:
                stored = images = pixels.select(rows)[:]
            digests = (
                [image_files.digest(each) for each in stored] if known is None else known[rows]
            )
            self._check_shape(images.shape[1:])
            progress.advance(len(rows))
            yield Part(rows, images, np.array(digests), (), at + len(rows))

    def _of_files(
        self,
        files: Files,
        size: int,
        start: int,
        lost: Sequence[Excluded],
        progress: parallel.Progress,
    ) -> Iterator[Part]:
        rows = self.rows[start:].tolist()
        names = [files.names[row] for row in rows]
        kept, images, damaged, gone = list[int](), list[Decoded](), list[Excluded](), [*lost]
        stops = self.config.on_damaged == 'stop'
        first = None
        with (
            image_files.pixel_limit(self.config.max_pixels),
            contextlib.closing(decoding.tried(files.root, names, self.config)) as found,
        ):
            for at, (row, each) in enumerate(zip(rows, found, strict=True)):
                progress.advance()
                if isinstance(each, Excluded):
                    damaged.append(each._replace(path=str(self.table.ids[row])))
                    gone.append(damaged[-1])
                    continue
                if stops and gone:
                    continue
                if first is None:
                    self._check_shape(each.image.shape)
                elif unlike := decoding.unlikeness(
                    each.file, each.image.shape, first, self.image_shape
                ):
                    raise UserError(unlike)
                first = first or each.file
                kept.append(row)
                images.append(each)
                if len(images) == size and at + 1 < len(rows):
                    yield _part(kept, images, damaged, start + at + 1)
                    kept, images, damaged = [], [], []
        decoding.refuse(files.root, len(self.rows), self.config, gone, self.table.excluded)
        if images:
            yield _part(kept, images, damaged, len(self.rows))
        elif damaged:  # all that is left after a whole part
            nothing = np.zeros((0, *self.image_shape), np.uint8)
            yield Part(
                np.zeros(0, np.int64), nothing, np.zeros(0, np.str_), tuple(damaged), len(self.rows)
            )

    def left_out(self, damaged: Sequence[Excluded]) -> tuple[Excluded, ...]:
        """Returns all that is left out, of which some cannot be read.

        Raises:
          UserError: they may not be left out, or nothing is left.
        """
        pixels, excluded = self.table.written.pixels, self.table.excluded
        if not isinstance(pixels, Files):
            return excluded
        return decoding.left_out(pixels.root, len(self.rows), self.config, damaged, excluded)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        height, width, _ = self.image_shape
        if shape != self.image_shape:
            raise UserError(
                f'images of {self.table.where} are {shape[1]}x{shape[0]}, the model takes {width}x{height}: resize '
                'them.'
            )


def _part(
    rows: Sequence[int], found: Sequence[Decoded], damaged: Sequence[Excluded], stop: int
) -> Part:
    return Part(
        np.array(rows, np.int64),
        np.stack([each.image for each in found]),
        np.array([each.digest for each in found]),
        tuple(damaged),
        stop,
    )


def source(
    data: Any,
    *,
    like: Data,
    image_shape: tuple[int, int, int],
    class_names: Sequence[str],
    side: str = '',
    protocol: str = '',
) -> Source:
    """Finds images that a model is to be applied to, and brings them to the size and channels that it was trained on.

    Args:
      data: a folder, an npz, a CSV or a prepared set; or the `data` part of a config that reads one, from
        `reading.arguments.config`; or images uint8 [N, H, W, C].
      like: how the images were read that the model was trained on.
      image_shape: height, width and channels that it takes.
      class_names: what it knows.
      side: of the split that the files bring, 'test' or the number of a fold: these images alone; '': all.
      protocol: that split, where a prepared set has several.

    Raises:
      UserError: the data cannot be read, or have no such side.
    """
    if isinstance(data, str | os.PathLike):
        data = arguments.config(user_path(data))
    pixels = None if isinstance(data, Data) else np.asarray(data)
    height, width, channels = image_shape
    given = data if pixels is None else Data(name='npz')
    config = given.replace(
        channels=channels,
        interpolation=like.interpolation,
        allow_outside=True,  # named by whoever asks
        image_size=height if height == width else 0,
        max_pixels=like.max_pixels,
        window=given.window or like.window,
        frame=like.frame if given.frame < 0 else given.frame,
        split=Split(protocol='none'),  # all images, on whichever side
        class_order=json.dumps(class_names),  # what the model knows is meant, even 'NA'
    )
    if pixels is None:
        table = reading.survey(config, mapped=True)
    else:
        table = rules.make(npz.written({'images': pixels}, 'the array'), config)
    table.refuse(*_FAULTS)
    table.refuse_enlarging(config.image_size)
    if side or protocol:
        table = _of_side(table, side, protocol)
    rows = table.used(table.protocol(config.split.protocol))
    if len(rows) == 0:
        raise UserError(f'{table.where} has no image that is not left out.')
    return Source(table, config, rows, image_shape)


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


def known_labels(source: Source, class_names: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """Returns labels int32 [N] in the numbering of the model, -1 for none, and lines about how they were found.

    They are matched by the names of the classes, as `written.values` compares names. Labels of an npz without names
    are numbers: they are the names of the model's classes where these are numbers, else places in their order.

    Raises:
      UserError: a label is none of the model's.
    """
    where, labels, names = source.table.where, source.labels, source.table.class_names
    made_up = source.table.written.made_up
    if labels is None:
        return np.full(len(source.rows), -1, np.int32), []
    place = {name: k for k, name in enumerate(class_names)}
    used = {k: names[k] for k in np.unique(labels[labels >= 0]).tolist()}
    said = list[str]()
    if made_up and not set(used.values()) <= set(place):
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
    if strange and made_up:
        raise UserError(
            f'label {strange[0]} of {where} is out of range: the model knows {", ".join(class_names)}.'
        )
    if strange:
        raise UserError(
            f'{where} has the class {strange[0]!r}, the model knows {", ".join(class_names)}: rename the '
            'class, or put the images into one folder without class folders.'
        )
    numbered = np.full(len(names) + 1, -1, np.int32)  # the last is that of no label
    for k, name in used.items():
        numbered[k] = place[name]
    return numbered[labels], said
