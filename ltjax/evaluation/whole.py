"""Everything that is said of predictions, by the command and at the end of a run: metrics, calibration, decisions.

What is chosen, a temperature, thresholds or prediction sets, is chosen on validation images and judged on test images.
Without predictions of validation images these parts are left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltjax.errors import UserError
from ltjax.evaluation import metrics, parts, subgroups
from ltjax.evaluation.bootstrap import bootstrap, clusters_of
from ltjax.evaluation.confusion import MAX_MATRIX_CLASSES
from ltjax.evaluation.parts import USUAL, Part, Resampled, Wishes
from ltjax.evaluation.predictions import Predictions
from ltjax.evaluation.table import listed
from ltjax.written.values import spelling

_PARTS = ('calibration', 'referral', 'decision_curves', 'operating_points', 'prediction_sets')


def evaluate(
    test: Predictions,
    *,
    train_counts: Sequence[int] | None,
    groups: Mapping[str, Sequence[int]],
    ordered: bool = False,
    validation: Predictions | None = None,
    wishes: Wishes = USUAL,
    by: Sequence[str] | None = None,
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
      by: columns of `test` whose subgroups are evaluated; None: all.
      num_bootstrap: number of resamples.
      seed: of the resamples.

    Returns:
      JSON-able: what `metrics.evaluate` returns; 'subgroups', a list, see `ltjax.evaluation.subgroups`; and
      'calibration', 'referral', 'decision_curves', 'operating_points' and 'prediction_sets', None where they are left
      out: a sentence in 'warnings' says why.

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
    found |= dict.fromkeys(_PARTS)
    found['subgroups'] = []
    for column in test.columns if by is None else by:
        rows, said = subgroups.evaluate(
            test, column, groups, num_bootstrap=num_bootstrap, seed=seed
        )
        found['subgroups'].append(rows)
        found['warnings'] += said
    if len(test.class_names) > MAX_MATRIX_CLASSES:
        found['warnings'].append(
            f'With more than {MAX_MATRIX_CLASSES} classes there is no calibration, operating point or prediction set.'
        )
        return found
    plans = {
        'referral': parts.of_referral(test, groups),
        'decision_curves': parts.of_decision_curves(test),
        'calibration': parts.of_calibration(test, groups, validation),
    }
    if validation is None:
        found['warnings'].append(
            'There are no predictions of validation images: no temperature, operating points and prediction sets.'
        )
    else:
        plans['operating_points'] = parts.of_operating_points(test, validation, wishes)
        sets = parts.fitted_sets(validation, wishes.alpha, train_counts)
        plans['prediction_sets'] = parts.of_prediction_sets(test, groups, sets)
        few = [test.class_names[k] for k in sets[0].too_few]
        if few:
            found['warnings'].append(
                f'Validation has too few images or groups of {listed(few)} to promise that prediction sets hold '
                f'these classes with {100 * (1 - wishes.alpha):g} %.'
            )
    return found | _measured(test, plans, num_bootstrap, seed)


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
        ('group', _spelled(validation.groups), _spelled(test.groups)),
    ):
        if both := sorted(ours & theirs):
            raise UserError(
                f'the {what} {both[0]} is in {validation.where} and in {test.where} ({len(both)} such): what is '
                'chosen on it would be tested on it; leave it out of one.'
            )


def _names(predictions: Predictions) -> set[str]:
    """Returns the names of the images, none where their file has none."""
    return set() if predictions.numbered else {*predictions.ids.tolist()}


def _spelled(groups: np.ndarray | None) -> set[str]:
    """Returns what the names of groups have in common with those that look alike."""
    return set() if groups is None else {*map(spelling, groups.tolist())} - {''}


def _measured(
    test: Predictions, plans: Mapping[str, Part], num_bootstrap: int, seed: int
) -> dict[str, Any]:
    """Returns the finished parts. All see the same resamples, which take longer to draw than to use."""
    every = {
        (part, name): statistic
        for part, plan in plans.items()
        for name, statistic in plan.statistics.items()
    }

    def statistic(weights: np.ndarray) -> dict[Any, np.ndarray]:
        return {
            (*key, array): values
            for key, one in every.items()
            for array, values in one(weights).items()
        }

    clusters = clusters_of(test.groups)
    samples = bootstrap(
        test.labels,
        statistic,
        num_classes=len(test.class_names),
        clusters=clusters,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    points = statistic(np.ones((1, len(test.labels)), np.int64))
    resampled: dict[str, dict[str, Resampled]] = {part: {} for part in plans}
    for part, name in every:
        keys = [key for key in points if key[:2] == (part, name)]
        resampled[part][name] = Resampled(
            {key[2]: points[key][0] for key in keys},
            {key[2]: samples[key] for key in keys},
            {key[2]: samples.freedom(samples[key]) for key in keys},
        )
    return {part: plan.finish(resampled[part]) for part, plan in plans.items()}
