"""What the validation images of a run decide of new ones: which classes count as positive, and sets of labels.

Both are chosen from probabilities of validation images that were made as those of the new images are.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from ltjax.errors import UserError
from ltjax.evaluation import operating_points, parts
from ltjax.evaluation.prediction_sets import PredictionSets
from ltjax.evaluation.predictions import Predictions
from ltjax.evaluation.probabilities import Probabilities
from ltjax.run.trained import Trained


@dataclasses.dataclass(frozen=True, eq=False)
class Decisions:
    """What is decided of N images.

    Attributes:
      thresholds: float64 [K], the least probability of each class that counts as positive, NaN where none could be
        chosen; None if none were asked for.
      positive: bool [N, K], which classes count as positive.
      fitted: how sets are made; None if none were asked for.
      sets: bool [N, K], which labels are in the set of each image.
      said: lines about classes with too few validation images.
    """

    thresholds: np.ndarray | None
    positive: np.ndarray | None
    fitted: PredictionSets | None
    sets: np.ndarray | None
    said: list[str]


def validation(
    trained: Trained, calibrate: str = '', shares: np.ndarray | None = None
) -> Predictions:
    """Returns what the model says of its validation images, with probabilities that are made in the same way.

    Args:
      trained: the model.
      calibrate: '' or a name in `recalibration.SCALINGS`: the scaling.
      shares: float [K], of the classes among the patients that are meant; None: as among the validation images.

    Raises:
      UserError: the run left no predictions of validation images, or has no such scaling.
    """
    found = trained.validation
    if found is None:
        raise UserError('the run left no predictions of validation images, which decisions need.')
    if not calibrate:
        return found
    logits = trained.scaling(calibrate).apply(parts.logits_of(found))
    if shares is not None:
        logits = trained.under_prevalence(logits, shares.tolist())[0]
    return dataclasses.replace(found, scores=Probabilities(logits))


def decide(
    trained: Trained,
    found: Predictions,
    probabilities: np.ndarray,
    *,
    wished: Mapping[str, float] | None = None,
    method: str = '',
    alpha: float = 0.1,
) -> Decisions:
    """Decides for new images.

    Args:
      trained: the model, whose training images say how frequent classes are.
      found: its validation images, from `validation`.
      probabilities: float64 [N, K] of the new ones.
      wished: {'sensitivity' or 'specificity': share} of thresholds; None: there are none.
      method: of sets, one of `prediction_sets.METHODS`; '': there are none.
      alpha: share of the images whose label a set may miss, above 0 and below 1.

    Raises:
      UserError: a share or alpha is out of range.
    """
    thresholds, fitted, said = None, None, list[str]()
    if wished:
        thresholds = operating_points.choose(found.labels, found.scores.matrix(), **wished)
        without = [trained.class_names[k] for k in np.flatnonzero(np.isnan(thresholds)).tolist()]
        if without:
            said.append(f'no threshold, for want of validation images: {", ".join(without)}')
    if method:
        fitted = parts.fitted_set(found, method, alpha, trained.train_counts)
        few = [trained.class_names[k] for k in fitted.too_few]
        if few:
            said.append(f'too few validation images to promise anything of: {", ".join(few)}')
    return Decisions(
        thresholds,
        None if thresholds is None else probabilities >= thresholds,
        fitted,
        None if fitted is None else fitted.sets(probabilities),
        said,
    )
