"""Predictions, whoever made them: labels and scores of test images, and what else is known of them."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from ltjax.errors import UserError
from ltjax.evaluation.probabilities import GivenProbabilities, Probabilities
from ltjax.written import values as written

# Rounded probabilities do not add up to one.
_ROUNDING = 0.02


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
      numbered: whether the file names no images, and the ids are their places in it.
    """

    where: str
    ids: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    scores: Probabilities
    groups: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    numbered: bool = False

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


def distinct(path: pathlib.Path, names: Sequence[str]) -> tuple[str, ...]:
    """Returns names of classes; UserError if they are less than two, or not distinct."""
    found = tuple(map(written.text, names))
    if len(found) < 2:
        raise UserError(f'{path} has one class: there is nothing to tell apart.')
    if len(set(found)) < len(found):
        twice = max(found, key=found.count)
        raise UserError(f'{path}: two classes are called {twice!r}: give each a name of its own.')
    return found


def made(
    path: pathlib.Path,
    ids: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    values: np.ndarray,
    *,
    logits: bool,
    groups: np.ndarray | None,
    columns: Mapping[str, np.ndarray],
    numbered: bool,
) -> Predictions:
    """Returns predictions as a file at `path` has them.

    Args:
      path: to be named where something is wrong.
      ids: as the attributes of `Predictions`, like what is not listed here.
      labels: the same.
      class_names: the same.
      values: float [n, K] logits or probabilities.
      logits: whether they are logits.
      groups: as the attribute.
      columns: as the attribute.
      numbered: as the attribute.

    Raises:
      UserError: there are no images, a name has a line break, a score is not finite, or probabilities are none.
    """
    if not len(labels):
        raise UserError(f'{path} has no images.')
    ids = np.array([written.text(name) for name in ids.tolist()], np.str_)
    lines = next(
        (name for name in (*ids.tolist(), *class_names) if len(name.splitlines()) > 1), None
    )
    if lines is not None:
        raise UserError(f'{path}: the name {lines!r} has a line break: give it one line.')
    broken = ~np.isfinite(values).all(1)
    if broken.any():
        raise UserError(
            f'{path}: scores of {broken.sum()} of {len(ids)} images are not finite, of {ids[broken.argmax()]} for one: '
            'predict them anew, or leave them out and say so.'
        )
    if not logits:
        sums = values.sum(1, dtype=np.float64)
        wrong = (values < 0).any(1) | (abs(sums - 1) > _ROUNDING)
        if wrong.any():
            row = wrong.argmax()
            raise UserError(
                f'{path}: the scores of {ids[row]} are no probabilities (they sum to {sums[row]:.3g}): '
                'if they are percentages, divide them by 100; if they are logits, say so: logit(CLASS) in a CSV or '
                '--logits, and logits in an npz.'
            )
    if groups is not None:
        groups = np.array(written.alike_as_one(groups.tolist()), np.str_)
    scores = Probabilities(values) if logits else GivenProbabilities(values)
    return Predictions(str(path), ids, labels, class_names, scores, groups, columns, numbered)
