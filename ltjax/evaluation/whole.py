"""Everything that is said of predictions, by the command and at the end of a run: metrics, calibration, decisions.

What is chosen, a temperature, thresholds or prediction sets, is chosen on validation images and judged on test images.
Without predictions of validation images these parts are left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltjax.errors import UserError
from ltjax.evaluation import calibration, metrics, operating_points, prediction_sets, recalibration
from ltjax.evaluation.bootstrap import bootstrap, clusters_of, interval, intervals
from ltjax.evaluation.confusion import MAX_MATRIX_CLASSES
from ltjax.evaluation.predictions import Predictions
from ltjax.evaluation.probabilities import softmax
from ltjax.evaluation.table import listed

# Probabilities from which one acts, of decision curves.
_THRESHOLDS = (0.01, 0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)))
_LEAST_PROBABILITY = 1e-300


class Wishes(NamedTuple):
    """What is asked of decisions.

    Attributes:
      sensitivity: of the operating points, above 0 and at most 1; 0: `specificity` is wished instead.
      specificity: of the operating points, where no sensitivity is wished.
      prevalence: [K] share of each class among the patients that are meant; None: that of the test set.
      alpha: share of the images whose label a prediction set may miss.
    """

    sensitivity: float = 0.9
    specificity: float = 0.9
    prevalence: Sequence[float] | None = None
    alpha: float = 0.1


USUAL = Wishes()


def evaluate(
    test: Predictions,
    *,
    train_counts: Sequence[int] | None,
    groups: Mapping[str, Sequence[int]],
    ordered: bool = False,
    validation: Predictions | None = None,
    wishes: Wishes = USUAL,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Evaluates predictions; every figure has a 95 % interval, of resamples that draw groups whole.

    Args:
      test: of the images that are tested.
      train_counts: [K] training images of each class; None where they are not known.
      groups: class indices by group, from `ltjax.evaluation.groups.head_medium_tail`.
      ordered: whether the classes are grades.
      validation: of images that were neither trained nor tested on, of the same classes in the same order.
      wishes: what is asked of decisions.
      num_bootstrap: number of resamples.
      seed: of the resamples.

    Returns:
      JSON-able: what `metrics.evaluate` returns, and 'calibration', 'referral', 'decision_curves', 'operating_points'
      and 'prediction_sets', None where they are left out; a sentence in 'warnings' says why.

    Raises:
      UserError: as `metrics.evaluate`.
    """
    found = metrics.evaluate(
        test.labels,
        test.scores,
        class_names=test.class_names,
        train_counts=train_counts,
        groups=groups,
        belongs_to=test.groups,
        num_bootstrap=num_bootstrap,
        seed=seed,
        ordered=ordered,
    )
    parts = ('calibration', 'referral', 'decision_curves', 'operating_points', 'prediction_sets')
    found |= dict.fromkeys(parts)
    if len(test.class_names) > MAX_MATRIX_CLASSES:
        found['warnings'].append(
            f'With more than {MAX_MATRIX_CLASSES} classes there is no calibration, operating point or prediction set.'
        )
        return found
    part = _Part(test, groups, wishes, num_bootstrap, seed)
    found['referral'] = part.referral()
    found['decision_curves'] = part.decision_curves()
    if validation is None:
        found['calibration'] = part.calibration(None)
        found['warnings'].append(
            'There are no predictions of validation images: no temperature, operating points and prediction sets.'
        )
        return found
    found['calibration'] = part.calibration(validation)
    found['operating_points'] = part.operating_points(validation)
    found['prediction_sets'] = part.prediction_sets(validation, train_counts)
    few = found['prediction_sets']['too_few']
    if few:
        found['warnings'].append(
            f'Validation has too few images or groups of {listed(few)} to promise that prediction sets hold these '
            f'classes with {100 * (1 - wishes.alpha):g} %.'
        )
    return found


def check_apart(test: Predictions, validation: Predictions) -> None:
    """Refuses validation images that do not go with the test.

    Raises:
      UserError: they have other classes, or share images or groups with the test.
    """
    if validation.class_names != test.class_names:
        raise UserError(
            f'{validation.where} has the classes {", ".join(validation.class_names)}, and {test.where} '
            f'{", ".join(test.class_names)}: they should be the same, in the same order.'
        )
    for what, ours, theirs in (
        ('image', _names(validation), _names(test)),
        ('group', validation.groups, test.groups),
    ):
        if ours is None or theirs is None:
            continue
        both = sorted({*ours.tolist()} & {*theirs.tolist()} - {''})
        if both:
            raise UserError(
                f'the {what} {both[0]} is in {validation.where} and in {test.where} ({len(both)} such): what is '
                'chosen on it would be tested on it; leave it out of one.'
            )


def _names(predictions: Predictions) -> np.ndarray | None:
    """Returns the names of the images, None where their file has none."""
    return None if predictions.numbered else predictions.ids


def logits_of(predictions: Predictions) -> np.ndarray:
    """Returns float64 [n, K] whose softmax are the probabilities."""
    return np.log(np.maximum(predictions.scores.matrix(), _LEAST_PROBABILITY))


class _Part:
    """The test set, and how its figures get their intervals."""

    def __init__(
        self,
        test: Predictions,
        groups: Mapping[str, Sequence[int]],
        wishes: Wishes,
        num_bootstrap: int,
        seed: int,
    ) -> None:
        self._test, self._groups, self._wishes = test, groups, wishes
        self._clusters = clusters_of(test.groups)
        self._number, self._seed = num_bootstrap, seed
        self._labels = test.labels
        self._probabilities = test.scores.matrix()
        self._ones = np.ones((1, len(test.labels)), np.int64)

    def _measured(self, statistic: operating_points.Statistic) -> dict[str, Any]:
        """Returns the intervals of each array of a statistic: of [r] one, of [r, K] a list, and so on."""
        samples = bootstrap(
            self._labels,
            statistic,
            num_classes=len(self._test.class_names),
            clusters=self._clusters,
            num_bootstrap=self._number,
            seed=self._seed,
        )
        return {
            name: _nested(value[0], samples[name]) for name, value in statistic(self._ones).items()
        }

    def referral(self) -> dict[str, Any]:
        found = operating_points.referral(self._labels, self._probabilities, self._groups)
        return {'shares': list(operating_points.SHARES), **self._measured(found)}

    def decision_curves(self) -> dict[str, Any]:
        classes = range(len(self._test.class_names))
        found = self._measured(
            operating_points.net_benefit(self._labels, self._probabilities, classes, _THRESHOLDS)
        )
        per_class = [
            {'name': name, 'model': model, 'treat_all': treat_all}
            for name, model, treat_all in zip(
                self._test.class_names, found['model'], found['treat all'], strict=True
            )
        ]
        return {'thresholds': list(_THRESHOLDS), 'per_class': per_class}

    def calibration(self, validation: Predictions | None) -> dict[str, Any]:
        """Measures probabilities as they are, and after scaling that validation images chose."""
        found: dict[str, Any] = {'as_they_are': self._calibrated(self._probabilities)}
        accuracies = calibration.bin_accuracies(self._labels, self._probabilities, self._groups)
        samples = bootstrap(
            self._labels,
            accuracies,
            num_classes=len(self._test.class_names),
            clusters=self._clusters,
            num_bootstrap=self._number,
            seed=self._seed,
        )
        found['reliability'] = calibration.reliability(
            self._labels, self._probabilities, self._groups, samples=samples
        )
        if validation is None:
            return found
        logits, ours = logits_of(validation), logits_of(self._test)
        for name, fit in recalibration.FITS.items():
            try:
                scaling = fit(validation.labels, logits)
            except UserError as error:  # such as validation images of one class
                found[name] = {'left_out': str(error)}
                continue
            measured = self._calibrated(softmax(scaling.apply(ours)))
            found[name] = {'fitted': scaling.to_json(), **measured}
        return found

    def _calibrated(self, probabilities: np.ndarray) -> dict[str, Any]:
        right = probabilities.argmax(1) == self._labels
        measured = self._measured(calibration.measures(self._labels, probabilities, self._groups))
        return {'accuracy': float(right.mean()), **measured}

    def operating_points(self, validation: Predictions) -> dict[str, Any]:
        wishes = self._wishes
        wished = (
            {'sensitivity': wishes.sensitivity}
            if wishes.sensitivity
            else {'specificity': wishes.specificity}
        )
        thresholds = operating_points.choose(
            validation.labels, validation.scores.matrix(), **wished
        )
        found = self._measured(
            operating_points.measures(
                self._labels, self._probabilities, thresholds, wishes.prevalence
            )
        )
        per_class = [
            {
                'name': name,
                'threshold': None if np.isnan(thresholds[k]) else float(thresholds[k]),
                **{figure: rows[k] for figure, rows in found.items()},
            }
            for k, name in enumerate(self._test.class_names)
        ]
        prevalence = None if wishes.prevalence is None else list(wishes.prevalence)
        return {'wished': wished, 'prevalence': prevalence, 'per_class': per_class}

    def prediction_sets(
        self, validation: Predictions, train_counts: Sequence[int] | None
    ) -> dict[str, Any]:
        alpha, clusters = self._wishes.alpha, clusters_of(validation.groups)
        shares = None
        if train_counts is not None and min(train_counts) > 0:
            shares = np.asarray(train_counts) / sum(train_counts)
        names = self._test.class_names
        made: list[dict[str, Any]] = []
        for method in prediction_sets.METHODS:
            if method == 'prevalence_adjusted' and shares is None:
                continue
            fitted = prediction_sets.fit(
                validation.labels,
                validation.scores.matrix(),
                clusters,
                method=method,
                alpha=alpha,
                prevalence=shares if method == 'prevalence_adjusted' else None,
            )
            sets = fitted.sets(self._probabilities)
            found = self._measured(prediction_sets.measures(self._labels, sets, self._groups))
            coverages, sizes = found.pop('class coverage'), found.pop('class size')
            per_class = [
                {'name': name, 'units': int(units), 'coverage': coverage, 'size': size}
                for name, units, coverage, size in zip(
                    names, fitted.units, coverages, sizes, strict=True
                )
            ]
            made.append({'fitted': fitted.to_json(), **found, 'per_class': per_class})
        too_few = [names[k] for k in fitted.too_few]
        return {'alpha': alpha, 'methods': made, 'too_few': too_few}


def _nested(values: np.ndarray, samples: np.ndarray) -> Any:
    """Returns the intervals of values [...], of resamples [R, ...], in lists within lists."""
    if values.ndim == 0:
        return interval(float(values), samples)
    if values.ndim == 1:
        return intervals(values, samples)
    return [_nested(value, samples[:, k]) for k, value in enumerate(values)]
