"""The parts of what is said of predictions: of each what is resampled, and what is made of it.

What is chosen, a temperature, thresholds or prediction sets, is chosen on validation images and judged on test images.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltjax.errors import UserError
from ltjax.evaluation import calibration, operating_points, prediction_sets, recalibration
from ltjax.evaluation.bootstrap import clusters_of, interval, intervals
from ltjax.evaluation.expected_coverage import expected_coverage
from ltjax.evaluation.predictions import Predictions
from ltjax.evaluation.probabilities import softmax

# Probabilities from which one acts, of decision curves.
_THRESHOLDS = (0.01, 0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)))
_LEAST_PROBABILITY = 1e-300

Statistic = Callable[[np.ndarray], Mapping[str, np.ndarray]]


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


class Part(NamedTuple):
    """A part of what is said, whose figures are resampled together with those of all others.

    Attributes:
      statistics: by name, see `ltjax.evaluation.bootstrap.bootstrap`.
      finish: makes the part from what they gave, by the same names.
    """

    statistics: Mapping[str, Statistic]
    finish: Callable[[Mapping[str, 'Resampled']], dict[str, Any]]


class Resampled(NamedTuple):
    """The arrays of a statistic.

    Attributes:
      values: by name, of the test images [...].
      samples: the same of resamples [R, ...].
      freedom: degrees of freedom of their spread [...].
    """

    values: Mapping[str, np.ndarray]
    samples: Mapping[str, np.ndarray]
    freedom: Mapping[str, np.ndarray]

    def figures(self) -> dict[str, Any]:
        """Returns the intervals of each array: of a number one, of [K] a list, and so on."""
        return {
            name: _nested(value, self.samples[name], self.freedom[name])
            for name, value in self.values.items()
        }


def logits(probabilities: np.ndarray) -> np.ndarray:
    """Returns float64 [n, K] whose softmax are the probabilities [n, K]; a probability of zero becomes 1e-300."""
    return np.log(np.maximum(probabilities, _LEAST_PROBABILITY))


def logits_of(predictions: Predictions) -> np.ndarray:
    """Returns float64 [n, K] whose softmax are the probabilities."""
    return logits(predictions.scores.matrix())


def of_referral(test: Predictions, groups: Mapping[str, Sequence[int]]) -> Part:
    """Judges the images that stay when the least certain ones go to a human."""
    statistic = operating_points.referral(test.labels, test.scores.matrix(), groups)
    shares = list(operating_points.SHARES)
    return Part({'': statistic}, lambda found: {'shares': shares, **found[''].figures()})


def of_decision_curves(test: Predictions) -> Part:
    """Draws the decision curve of each class."""
    classes = range(len(test.class_names))
    statistic = operating_points.net_benefit(
        test.labels, test.scores.matrix(), classes, _THRESHOLDS
    )

    def finish(found: Mapping[str, Resampled]) -> dict[str, Any]:
        figures = found[''].figures()
        rows = zip(test.class_names, figures['model'], figures['treat all'], strict=True)
        per_class = [
            {'name': name, 'model': model, 'treat_all': treat_all}
            for name, model, treat_all in rows
        ]
        return {'thresholds': list(_THRESHOLDS), 'per_class': per_class}

    return Part({'': statistic}, finish)


def of_calibration(
    test: Predictions, groups: Mapping[str, Sequence[int]], validation: Predictions | None
) -> Part:
    """Measures probabilities as they are, and after scaling that validation images chose."""
    labels, probabilities = test.labels, test.scores.matrix()
    made = {'as_they_are': probabilities}
    said: dict[str, dict[str, Any]] = {'as_they_are': {}}
    for name, fit in recalibration.FITS.items():
        if validation is None:
            break
        try:
            scaling = fit(validation.labels, logits_of(validation))
        except UserError as error:  # such as validation images of one class
            said[name] = {'left_out': str(error)}
            continue
        made[name] = softmax(scaling.apply(logits_of(test)))
        said[name] = {'fitted': scaling.to_json()}
    statistics = {name: calibration.measures(labels, p, groups) for name, p in made.items()}
    statistics['reliability'] = calibration.bin_accuracies(labels, probabilities, groups)

    def finish(found: Mapping[str, Resampled]) -> dict[str, Any]:
        for name, p in made.items():
            accuracy = float((p.argmax(1) == labels).mean())
            said[name] |= {'accuracy': accuracy, **found[name].figures()}
        reliability = calibration.reliability(
            labels,
            probabilities,
            groups,
            samples=found['reliability'].samples,
            freedom=found['reliability'].freedom,
        )
        return {**said, 'reliability': reliability}

    return Part(statistics, finish)


def of_operating_points(test: Predictions, validation: Predictions, wishes: Wishes) -> Part:
    """Judges the thresholds that validation images chose."""
    wished = (
        {'sensitivity': wishes.sensitivity}
        if wishes.sensitivity
        else {'specificity': wishes.specificity}
    )
    thresholds = operating_points.choose(validation.labels, validation.scores.matrix(), **wished)
    statistic = operating_points.measures(
        test.labels, test.scores.matrix(), thresholds, wishes.prevalence
    )

    def finish(found: Mapping[str, Resampled]) -> dict[str, Any]:
        figures = found[''].figures()
        per_class = [
            {
                'name': name,
                'threshold': None if np.isnan(thresholds[k]) else float(thresholds[k]),
                **{figure: rows[k] for figure, rows in figures.items()},
            }
            for k, name in enumerate(test.class_names)
        ]
        prevalence = None if wishes.prevalence is None else list(wishes.prevalence)
        return {'wished': wished, 'prevalence': prevalence, 'per_class': per_class}

    return Part({'': statistic}, finish)


def fitted_sets(
    validation: Predictions, alpha: float, train_counts: Sequence[int] | None
) -> list[prediction_sets.PredictionSets]:
    """Calibrates every method; the prevalence-adjusted one where each class is known to have training images."""
    known = train_counts is not None and min(train_counts) > 0
    return [
        fitted_set(validation, method, alpha, train_counts)
        for method in prediction_sets.METHODS
        if method != 'prevalence_adjusted' or known
    ]


def fitted_set(
    validation: Predictions, method: str, alpha: float, train_counts: Sequence[int] | None
) -> prediction_sets.PredictionSets:
    """Calibrates a method of `prediction_sets`, by patient where they are known; UserError as `prediction_sets.fit`."""
    shares = None
    if method == 'prevalence_adjusted' and train_counts is not None:
        shares = np.asarray(train_counts) / sum(train_counts)
    return prediction_sets.fit(
        validation.labels,
        validation.scores.matrix(),
        clusters_of(validation.groups),
        method=method,
        alpha=alpha,
        prevalence=shares,
    )


def of_prediction_sets(
    test: Predictions,
    groups: Mapping[str, Sequence[int]],
    fitted: Sequence[prediction_sets.PredictionSets],
) -> Part:
    """Judges prediction sets, of the same alpha."""
    probabilities, patients = test.scores.matrix(), clusters_of(test.groups)
    statistics = {
        one.method: prediction_sets.measures(test.labels, one.sets(probabilities), groups, patients)
        for one in fitted
    }

    def finish(found: Mapping[str, Resampled]) -> dict[str, Any]:
        made = []
        for one in fitted:
            figures = found[one.method].figures()
            expected = expected_coverage(one, test.labels, patients, groups)
            columns = [figures.pop('class coverage'), figures.pop('class size')]
            columns.append(expected.pop('class coverage', [None] * len(one.units)))
            per_class = [
                {'name': name, 'units': int(units), 'coverage': c, 'size': size, 'expected': range_}
                for name, units, c, size, range_ in zip(
                    test.class_names, one.units, *columns, strict=True
                )
            ]
            said = {'fitted': one.to_json(), **figures, 'expected': expected}
            made.append({**said, 'per_class': per_class})
        too_few = [test.class_names[k] for k in fitted[0].too_few]
        return {'alpha': fitted[0].alpha, 'methods': made, 'too_few': too_few}

    return Part(statistics, finish)


def _nested(values: np.ndarray, samples: np.ndarray, freedom: np.ndarray) -> Any:
    """Returns the intervals of values [...], of resamples [R, ...], in lists within lists."""
    if values.ndim == 0:
        return interval(float(values), samples, float(freedom))
    if values.ndim == 1:
        return intervals(values, samples, freedom)
    return [_nested(value, samples[:, k], freedom[k]) for k, value in enumerate(values)]
