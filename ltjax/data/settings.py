"""The `data` part of a config as a plain object, with what it says by default. Values only: imports in no time."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from ltjax.settings import at_least, either, from_to, positive, typed

Format = Literal['embedded', 'npz', 'folder', 'csv', 'prepared', 'tfds']
Subfolders = Literal['refuse', 'flatten', 'class', 'group']
OnProblem = Literal['stop', 'exclude']
Interpolation = Literal['area', 'bilinear', 'bicubic']
SUBFOLDERS: tuple[str, ...] = get_args(Subfolders)
ON_PROBLEM: tuple[str, ...] = get_args(OnProblem)
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)
MAX_PIXELS = 89_478_485  # Pillow's own limit


@dataclasses.dataclass(frozen=True)
class Columns:
    """What the columns of a CSV are called; `label` may be `one_hot`: a column a class."""

    path: str = 'path'
    label: str = 'label'
    split: str = 'split'
    group: str = 'group'


@dataclasses.dataclass(frozen=True)
class Split:
    """How images are divided.

    Attributes:
      val, test: fractions held out where the files bring no split. Of a split without validation
        images, `val` of the training images are held out; 0: none, and the last round is the result.
      seed: of the division; it is not the run's.
      folds: how many to draw; 0: none.
      fold: the number of the fold that is the test; -1: each in turn, results pooled.
      protocol: a split of a prepared set by its name; '': its only one; 'none' draws one.
      allow_leaks: take a split of the files that has groups or equal images on two sides.
    """

    val: float = 0.1
    test: float = 0.2
    seed: Annotated[int, at_least(0)] = 0
    folds: int = 0
    fold: int = 0
    protocol: str = ''
    allow_leaks: bool = False


@dataclasses.dataclass(frozen=True)
class LongTail:
    """Training images a class, from `max_count` down by `ratio`; ratio 0 keeps what is there."""

    max_count: int = 0
    ratio: int = 0


@dataclasses.dataclass(frozen=True)
class Groups:
    """Classes of the head, the middle and the tail, by name or place in the order; all empty: as `by` says.

    Attributes:
      by: 'thirds' of the classes by training images; or 'counts': many (more than 100 training
        images), medium (20 to 100) and few (less than 20).
    """

    by: Literal['thirds', 'counts'] = 'thirds'
    head: tuple[Any, ...] = ()
    medium: tuple[Any, ...] = ()
    tail: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set: where it is, how it is read and how it is split.

    Attributes:
      name: of the set, see `catalog`.
      format: who reads it, see `ltjax.data.reading`.
      path: of the folder or file.
      cache: folder in which decoded images of more than 2,000 files are kept for the next run; 'auto': ltjax/data in
        the user's folder for such; '' or 'off': nowhere.
      allow_outside: whether images may lie outside the folder, or that of the CSV.
      columns: of a CSV.
      further: names of what the files say of an image beside its label, such as its site: columns of a CSV or a
        prepared set, arrays of an npz.
      images: folder of the images of a CSV whose column `path` holds ids.
      suffix: what such an id lacks of its file's name.
      spellings: a CSV with the columns spelling and class: what else the files call the classes.
      subfolders: what folders inside class folders are: 'group', 'class', or without meaning ('flatten').
      class_order: the classes with commas between them, or as a JSON list; or natural.
      on_damaged: at images that cannot be read; 'exclude' lists them in excluded.csv.
      on_unlabelled: at images without a label.
      max_pixels: of an image to be decoded.
      window: of images of more than 8 bits a channel, 'LOW,HIGH': the values that become black and white; 'file': those
        that DICOM files say; '': such images are refused. DICOM files of a folder are passed over without one.
      frame: of files of several frames or pages, that which is the image, from 0; -1: such files are refused.
      image_size: pixels a side; 0: as stored.
      channels: 1 or 3; 0: as stored.
      interpolation: of images that must be resized.
      mean, std: of each channel, of images in 0 to 1; one value stands for all channels.
      split: how images are divided.
      long_tail: how training images are thinned.
      groups: the classes of head, medium and tail.
    """

    name: str = ''
    format: Format = 'npz'
    path: str = ''
    cache: str = 'auto'
    allow_outside: bool = False
    columns: Columns = Columns()
    further: tuple[str, ...] = ()
    images: str = ''
    suffix: str = ''
    spellings: str = ''
    subfolders: Subfolders = 'refuse'
    class_order: str = ''
    on_damaged: OnProblem = 'stop'
    on_unlabelled: OnProblem = 'stop'
    max_pixels: Annotated[int, at_least(1)] = MAX_PIXELS
    window: str = ''
    frame: Annotated[int, at_least(-1)] = -1
    image_size: Annotated[int, from_to(0, 16_384)] = 0
    channels: Annotated[int, either(0, 1, 3)] = 0
    interpolation: Interpolation = 'area'
    mean: tuple[float, ...] = (0.5,)
    std: tuple[Annotated[float, positive()], ...] = (0.25,)
    split: Split = Split()
    long_tail: LongTail = LongTail()
    groups: Groups = Groups()

    @staticmethod
    def of(config: 'Data | Mapping[str, Any]') -> 'Data':
        """Returns the object for the `data` part of a config.

        Raises:
          UserError: a key or value that does not exist.
        """
        return config if isinstance(config, Data) else typed(Data, config, 'data')

    def replace(self, **changes: Any) -> 'Data':
        """Returns a copy with other values."""
        return dataclasses.replace(self, **changes)
