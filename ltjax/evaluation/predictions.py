"""A file of predictions, whoever made them: labels and scores of test images, and what else is known of them."""

import csv
import dataclasses
import pathlib
import re
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ltjax.errors import UserError, unknown
from ltjax.evaluation.probabilities import GivenProbabilities, Probabilities

# Rounded probabilities do not add up to one.
_ROUNDING = 0.02
# What precedes the names of further columns in the .npz of a run.
COLUMN = 'column:'
_CLASS_COLUMN = re.compile(r'(p|logit)\((.*)\)', re.DOTALL)


class Naming(NamedTuple):
    """What the columns of a CSV are called.

    Attributes:
      id: of the column of the images' names; without such a column they are numbered.
      label: of the classes' names.
      group: of the patients, lesions or smears.
      classes: columns of scores, in the order of the classes; (): those that are called p(CLASS) or logit(CLASS).
      logits: whether the columns named in `classes` hold logits, not probabilities.
    """

    id: str = 'id'
    label: str = 'label'
    group: str = 'group'
    classes: Sequence[str] = ()
    logits: bool = False


USUAL = Naming()


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Labels and scores of n test images.

    Attributes:
      where: the file.
      ids: str [n], distinct.
      labels: int64 [n] true classes.
      class_names: the K names.
      scores: probabilities [n, K].
      groups: str [n], the patient, lesion or smear of each image, '' where it is alone; None if that is not known.
      columns: further columns, str [n], by name.
      named: whether the file names the images; else `ids` are the numbers of its rows.
    """

    where: str
    ids: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    scores: Probabilities
    groups: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    named: bool = True

    def like(self, other: 'Predictions') -> np.ndarray:
        """Returns the predicted classes [n] of the images and in the numbering of other predictions.

        They are matched by the names of images and classes.

        Raises:
          UserError: these are of other images, labels or classes.
        """
        if sorted(self.class_names) != sorted(other.class_names):
            raise UserError(
                f'{self.where} has the classes {", ".join(self.class_names)}, and {other.where} '
                f'{", ".join(other.class_names)}: compare predictions of the same classes.'
            )
        place = {name: row for row, name in enumerate(self.ids.tolist())}
        missing = [name for name in other.ids.tolist() if name not in place]
        if missing or len(place) != len(other.ids):
            named = f', such as {missing[0]}' if missing else ''
            raise UserError(
                f'{self.where} is of other images than {other.where}{named}: compare predictions of the same images.'
            )
        rows = np.array([place[name] for name in other.ids.tolist()])
        number = {name: k for k, name in enumerate(other.class_names)}
        renumbered = np.array([number[name] for name in self.class_names])
        differ = renumbered[self.labels[rows]] != other.labels
        if differ.any():
            raise UserError(
                f'{self.where} has other labels than {other.where}, of {other.ids[differ.argmax()]} for one: '
                'compare predictions of the same labels.'
            )
        predicted: np.ndarray = renumbered[self.scores.predictions[rows]]
        return predicted


def read(path: pathlib.Path, naming: Naming = USUAL) -> Predictions:
    """Reads predictions: an .npz as a run leaves it, or a .csv.

    An .npz has labels int [n], logits or probabilities [n, K] and class_names [K]; and if they are known ids,
    groups and further arrays [n]. A .csv has a row an image, and columns as `naming` says; a label is the name of a
    class. What is not an id, label, group, score or `prediction` is a further column.

    Raises:
      UserError: the file cannot be read or lacks something, a label is missing or unknown, a score is not finite,
        probabilities do not sum to one, or an image occurs twice.
    """
    if path.suffix not in ('.npz', '.csv'):
        raise UserError(f'{path} should end in .npz or .csv.')
    if not path.is_file():
        raise UserError(f'{path}: there is no such file.')
    found = _read_npz(path) if path.suffix == '.npz' else _read_csv(path, naming)
    ids, times = np.unique(found.ids, return_counts=True)
    if times.max() > 1:
        raise UserError(f'{path} has the image {ids[times.argmax()]} twice: keep one row of each.')
    return found


def _read_npz(path: pathlib.Path) -> Predictions:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name != 'features'}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f'{path} cannot be read: {error}') from None
    for name in ('labels', 'class_names'):
        if name not in arrays:
            raise UserError(f'{path} has no array {name!r}: it has {", ".join(arrays)}.')
    kinds = [name for name in ('logits', 'probabilities') if name in arrays]
    if len(kinds) != 1:
        raise UserError(f'{path} should have an array of logits or one of probabilities.')
    labels, values = arrays['labels'], arrays[kinds[0]]
    class_names = tuple(arrays['class_names'].astype(np.str_).tolist())
    if labels.ndim != 1 or labels.dtype.kind not in 'iu' or values.dtype.kind not in 'fiu':
        raise UserError(f'{path}: labels should be whole numbers [n], and {kinds[0]} numbers.')
    if values.shape != (len(labels), len(class_names)):
        raise UserError(
            f'{path}: {kinds[0]} of shape {values.shape} do not fit {len(labels)} labels and '
            f'{len(class_names)} classes.'
        )
    ids = arrays.get('ids', np.arange(len(labels))).astype(np.str_)
    further = {name: array for name, array in arrays.items() if array.shape == labels.shape}
    outside = (labels < 0) | (labels >= len(class_names))
    if outside.any():
        row = outside.argmax()
        raise UserError(
            f'{path}: the label of {ids[row]} is {labels[row]}, and the classes are 0 to {len(class_names) - 1}: '
            'keep images with a label.'
        )
    known = {'ids', 'labels', 'class_names', 'groups', kinds[0]}
    return _make(
        path,
        ids,
        labels.astype(np.int64),
        class_names,
        values,
        logits=kinds[0] == 'logits',
        groups=further['groups'].astype(np.str_) if 'groups' in further else None,
        named='ids' in arrays,
        columns={
            name.removeprefix(COLUMN): array.astype(np.str_)
            for name, array in further.items()
            if name not in known
        },
    )


def _read_csv(path: pathlib.Path, naming: Naming) -> Predictions:
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path} cannot be read: {error}') from None
    odd = next((n for n, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if odd is not None:
        raise UserError(
            f'{path}: row {odd} has {len(rows[odd - 2])} cells, the header {len(header)}.'
        )
    if len(set(header)) < len(header):
        raise UserError(f'{path}: two columns have the same name.')
    columns = dict(zip(header, np.array(rows, np.str_).reshape(-1, len(header)).T, strict=True))
    if naming.label not in columns:
        raise UserError(
            f'{path} has no column {naming.label!r}: name that of the labels with --label; the columns are '
            f'{", ".join(header)}.'
        )
    scores, class_names, logits = _score_columns(path, columns, naming)
    try:
        values = np.stack([columns[name].astype(np.float64) for name in scores], axis=1)
    except ValueError as error:
        raise UserError(f'{path}: a score is not a number: {error}') from None
    place = {unicodedata.normalize('NFC', name): k for k, name in enumerate(class_names)}
    given = [unicodedata.normalize('NFC', name.strip()) for name in columns[naming.label].tolist()]
    ids = columns.get(naming.id, np.arange(1, len(rows) + 1).astype(np.str_))
    for name, label in zip(ids.tolist(), given, strict=True):
        if not label:
            raise UserError(f'{path}: {name} has no label: keep images with a label.')
        if label not in place:
            raise unknown(f'label of {name} in {path}', label, class_names)
    taken = {naming.id, naming.label, naming.group, 'prediction', *scores}
    return _make(
        path,
        ids,
        np.array([place[label] for label in given], np.int64),
        class_names,
        values,
        logits=logits,
        groups=columns.get(naming.group),
        named=naming.id in columns,
        columns={name: column for name, column in columns.items() if name not in taken},
    )


def _score_columns(
    path: pathlib.Path, columns: Mapping[str, np.ndarray], naming: Naming
) -> tuple[list[str], tuple[str, ...], bool]:
    """Returns the columns of scores, the classes, and whether the scores are logits."""
    if naming.classes:
        for name in naming.classes:
            if name not in columns:
                raise unknown(f'column of {path}', name, columns)
        return list(naming.classes), tuple(naming.classes), naming.logits
    found = {name: match for name in columns if (match := _CLASS_COLUMN.fullmatch(name))}
    kinds = {match[1] for match in found.values()}
    if len(found) < 2 or len(kinds) > 1:
        raise UserError(
            f'{path} should have a column p(CLASS), or logit(CLASS), of each class; or name the columns with '
            f'--classes=A,B,...: they are {", ".join(columns)}.'
        )
    return list(found), tuple(match[2] for match in found.values()), kinds == {'logit'}


def _make(
    path: pathlib.Path,
    ids: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    values: np.ndarray,
    *,
    logits: bool,
    groups: np.ndarray | None,
    columns: Mapping[str, np.ndarray],
    named: bool,
) -> Predictions:
    """Checks the scores."""
    if not len(labels):
        raise UserError(f'{path} has no images.')
    if len(class_names) < 2:
        raise UserError(f'{path} has one class: there is nothing to tell apart.')
    if len(set(class_names)) < len(class_names):
        raise UserError(f'{path}: two classes have the same name.')
    broken = ~np.isfinite(values).all(1)
    if broken.any():
        raise UserError(
            f'{path}: scores of {broken.sum()} of {len(ids)} images are not finite, of {ids[broken.argmax()]} for one.'
        )
    if not logits:
        sums = values.sum(1)
        wrong = (values < 0).any(1) | (abs(sums - 1) > _ROUNDING)
        if wrong.any():
            row = wrong.argmax()
            raise UserError(
                f'{path}: the scores of {ids[row]} are no probabilities (they sum to {sums[row]:.3g}): '
                'if they are logits, say so: logit(CLASS) in a CSV or --logits, and logits in an npz.'
            )
    scores = Probabilities(values) if logits else GivenProbabilities(values)
    return Predictions(str(path), ids, labels, class_names, scores, groups, columns, named)
