"""What the validation images of a run decide of new ones: scalings, which classes count as positive, sets of labels.

The last two are chosen from probabilities of validation images that were made as those of the new images are.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ltjax.errors import UserError
from ltjax.evaluation import operating_points, parts, recalibration
from ltjax.evaluation.prediction_sets import PredictionSets
from ltjax.evaluation.predictions import Predictions
from ltjax.evaluation.probabilities import Probabilities, softmax
from ltjax.evaluation.recalibration import SCALINGS, Temperature, VectorScaling
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


def scaling(trained: Trained, name: str) -> Temperature | VectorScaling:
    """Returns what makes the model's logits calibrated: 'temperature' or 'vector', fitted on its validation images.

    Raises:
      UserError: the run found none.
    """
    fitted = (trained.calibration or {}).get(name, {})
    if 'fitted' not in fitted:
        why = fitted.get('left_out', 'it left no predictions of validation images')
        raise UserError(f'the run has no {name} scaling: {why}.')
    return SCALINGS[name].from_json(fitted['fitted'])


def under_prevalence(
    trained: Trained, logits: np.ndarray, shares: Sequence[float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits of probabilities for patients among whom the classes have other shares, and these.

    Args:
      trained: the model.
      logits: float [N, K], after the scaling called 'vector': the shares that such probabilities presume are those
        of the validation images, whatever sampler or loss the network was trained with.
      shares: of the K classes; None: they are estimated from the images (Saerens et al., 2002).

    Raises:
      UserError: the run left no predictions of validation images, or none of a class.
    """
    if trained.validation is None:
        raise UserError('the run left no predictions of validation images: give no prevalence.')
    counts = np.bincount(trained.validation.labels, minlength=len(trained.class_names))
    presumed, probabilities = counts.tolist(), softmax(logits)
    if shares is None:
        shares = recalibration.estimate_prior(probabilities, presumed).tolist()
    corrected = recalibration.correct_prior(probabilities, presumed, shares)
    return parts.logits(corrected), np.asarray(shares)


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
    logits = scaling(trained, calibrate).apply(parts.logits_of(found))
    if shares is not None:
        logits = under_prevalence(trained, logits, shares.tolist())[0]
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
