"""Where the coverage of prediction sets may lie on a test by chance alone, known before the test is seen.

A promise of 1 - alpha holds on average over validation sets. The thresholds of one validation set of n patients
cover a share of the patients to come that is a draw from Beta(l, n + 1 - l), l = ceil((n + 1)(1 - alpha)) (Vovk,
Conditional validity of inductive conformal predictors, 2012), and m test patients show that share as m tosses
of a coin do. Coverage outside this range says that validation and test images differ in more than chance.

A patient counts as one image here. Several images of a patient say more than one, so that the range is wide
rather than narrow.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ltjax.evaluation.counting import mean_of_defined
from ltjax.evaluation.prediction_sets import PredictionSets, needed

Range = dict[str, float]

_DRAWS = 20_000
_LEVEL = 0.95


def expected_coverage(
    fitted: PredictionSets,
    labels: np.ndarray,
    patients: np.ndarray | None,
    groups: Mapping[str, Sequence[int]],
    *,
    seed: int = 0,
) -> dict[str, Range | list[Range | None]]:
    """Returns the ranges, each of {'low', 'high'}, in which 95 of 100 coverages lie.

    Args:
      fitted: the sets.
      labels: [n] int true classes of the test images.
      patients: [n] int code of the patient of each test image; None if each image is a patient of its own.
      groups: class indices by group, as for `prediction_sets.measures`.
      seed: of the draws.

    Returns:
      By the names of `prediction_sets.measures` what is promised: 'coverage'; of 'class_conditional' instead
      'class coverage', a list with None for a class without test images, and '{group} coverage' of each group
      with some. {} of 'clustered', whose promise is one of each cluster.
    """
    codes = np.arange(len(labels)) if patients is None else patients
    rng = np.random.default_rng(seed)
    if fitted.method == 'clustered':
        return {}
    if fitted.method != 'class_conditional':
        return {
            'coverage': _range(_shares(rng, fitted.patients, len(np.unique(codes)), fitted.alpha))
        }
    of_class = [labels == k for k in range(len(fitted.units))]
    images = np.array([chosen.sum() for chosen in of_class])
    shares = np.stack(
        [
            _shares(rng, int(units), len(np.unique(codes[chosen])), fitted.alpha)
            for units, chosen in zip(fitted.units, of_class, strict=True)
        ],
        axis=1,
    )
    said: dict[str, Range | list[Range | None]] = {
        'class coverage': [_range(shares[:, k]) if images[k] else None for k in range(len(images))]
    }
    for name, classes in groups.items():
        if images[list(classes)].any():
            said[f'{name} coverage'] = _range(mean_of_defined(shares[:, list(classes)]))
    return said


def _shares(rng: np.random.Generator, units: int, tested: int, alpha: float) -> np.ndarray:
    """Returns draws of the share of `tested` patients that thresholds of `units` patients cover; NaN of none."""
    if not tested:
        return np.full(_DRAWS, np.nan)
    if units < needed(alpha):  # the sets hold every label
        return np.ones(_DRAWS)
    rank = int(np.ceil((units + 1) * (1 - alpha) - 1e-9))
    return rng.binomial(tested, rng.beta(rank, units + 1 - rank, _DRAWS)) / tested


def _range(draws: np.ndarray) -> Range:
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return {'low': float(low), 'high': float(high)}
