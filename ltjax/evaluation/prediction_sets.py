"""Sets of labels that hold the true one with a promised probability: split conformal prediction.

A label is in the set of an image where its score, the less the better, is at most the label's threshold. The
thresholds are quantiles of the scores of the true labels of validation images, which the network must not
have been trained on (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005). That they chose
the round makes their scores a little better than those of images to come.

Images of a patient are alike, and a patient of fifty images is not fifty patients. `fit` therefore takes the
patients too: each weighs as much as any other, its images share its weight, and one more patient, the one to
come, is counted as the worst of all (HCP of Lee, Barber and Willett, Distribution-free inference with
hierarchical data, 2023). With each image as its own patient that is the usual quantile, the
ceil((m + 1)(1 - alpha))-th smallest of m scores.

What is promised holds on average over validation sets and new patients, if those to come are drawn as those of
the validation set were: for one image, drawn at random from a new patient's, the set holds its label with a
probability of at least 1 - alpha. The methods differ in what that is true of:

* 'marginal': of all images (score 1 - p; LAC, Sadinle, Lei and Wasserman, 2019). Rare classes may be missed
  always.
* 'class_conditional': of the images of each class (Mondrian; of a new patient with images of the class, one of
  those). A class of m patients with m < 1 / alpha - 1 is in every set: less keeps no promise.
* 'clustered': of the images of each cluster of classes (Ding et al., Class-conditional conformal prediction
  with many classes, 2023), of each class as far as the scores of a cluster's classes are alike. Classes are
  clustered by quantiles of their scores, from a part of the patients that then are not calibrated on. The
  classes that are too rare for it form the null cluster and have the marginal threshold. How many clusters
  the paper's rule makes hangs on the rarest class: where it has less than ten images, at alpha 0.1 and with
  fewer than 60 classes, there are none, and all classes are in the null cluster.
* 'prevalence_adjusted': of all images, with the sets that, were the probabilities right, for their size would
  be the best for the mean coverage of classes (score -p / prevalence; PAS of Ding, Fermanian and Salmon,
  Conformal prediction for long-tailed classification, 2025).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from ltjax.errors import UserError, unknown
from ltjax.evaluation.counting import mean_of_defined, share
from ltjax.evaluation.operating_points import shares_of_classes

METHODS = ('marginal', 'class_conditional', 'clustered', 'prevalence_adjusted')
NULL_CLUSTER = -1
# Of the scores of a class: what classes are clustered by, beside the quantile 1 - alpha.
_QUANTILES = (0.5, 0.6, 0.7, 0.8, 0.9)
# What a quantile may be short of its level by rounding, as a share of the patients.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class PredictionSets:
    """What `fit` found: how sets are made.

    Attributes:
      method: one of METHODS.
      alpha: share of the images whose label may be missed.
      thresholds: [K] float64 largest scores that are in the set; inf for a class that always is.
      units: [K] int64 validation patients (without patients, images) of each class.
      patients: validation patients in all.
      prevalence: [K] float64, with 'prevalence_adjusted', else None.
      clusters: [K] int64 cluster of each class, NULL_CLUSTER for the null cluster, with 'clustered', else
        None.
    """

    method: str
    alpha: float
    thresholds: np.ndarray
    units: np.ndarray
    patients: int
    prevalence: np.ndarray | None = None
    clusters: np.ndarray | None = None

    @property
    def too_few(self) -> tuple[int, ...]:
        """Classes with fewer than 1 / alpha - 1 units: of none of them alone anything can be promised."""
        few = self.units < needed(self.alpha)
        return tuple(np.flatnonzero(few).tolist())

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns [n, K] bool: which labels are in the set of each image, of probabilities [n, K]."""
        return _scores(probabilities, self.prevalence) <= self.thresholds

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-able dict of the attributes; an infinite threshold is None."""
        lists = {
            name: None if values is None else values.tolist()
            for name, values in (
                ('units', self.units),
                ('prevalence', self.prevalence),
                ('clusters', self.clusters),
            )
        }
        thresholds = [None if np.isinf(value) else value for value in self.thresholds.tolist()]
        single = {'method': self.method, 'alpha': self.alpha, 'patients': self.patients}
        return {**single, 'thresholds': thresholds, **lists}


def fit(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups_of_images: np.ndarray | None,
    *,
    method: str,
    alpha: float = 0.1,
    prevalence: Sequence[float] | np.ndarray | None = None,
    seed: int = 0,
) -> PredictionSets:
    """Calibrates prediction sets on validation images.

    Args:
      labels: [n] int true classes of the validation images.
      probabilities: [n, K] float64.
      groups_of_images: [n] int code of the patient of each image; None if each image is a patient of its own.
      method: one of METHODS, described at the top of this module.
      alpha: share of the images whose label may be missed, above 0 and below 1.
      prevalence: [K] share of each class in training, above 0; used by 'prevalence_adjusted', which needs it.
        Those of the validation set would not do: a score must not depend on what it is calibrated with.
      seed: seed of the patients that 'clustered' makes clusters of, and of k-means.

    Returns:
      The sets. A threshold is inf, which puts its classes into every set, where it would be a quantile of
      fewer than 1 / alpha - 1 patients: with 'class_conditional' those of a class (a class without validation
      images among them), with 'clustered' those of a cluster, else all.

    Raises:
      UserError: there is no such method, alpha is not within 0 and 1, or a prevalence is missing, not within 0
        and 1 or, of a class without training images, 0.
      ValueError: there is not one prevalence for each class.
    """
    if method not in METHODS:
        raise unknown('method of prediction sets', method, METHODS)
    if not 0 < alpha < 1:
        raise UserError(f'alpha {alpha}: choose a number between 0 and 1, such as 0.1.')
    num_images, num_classes = probabilities.shape
    adjusting = _adjusting(prevalence, num_classes) if method == 'prevalence_adjusted' else None
    own = probabilities[np.arange(num_images), labels]
    scores = _scores(own, None if adjusting is None else adjusting[labels])
    names = np.arange(num_images) if groups_of_images is None else groups_of_images
    patients, codes = np.unique(names, return_inverse=True)
    of_class = [np.flatnonzero(labels == k) for k in range(num_classes)]
    units = np.array([len(np.unique(codes[images])) for images in of_class], np.int64)
    clusters = None
    if method == 'class_conditional':
        thresholds = [quantile(scores[images], codes[images], alpha) for images in of_class]
    elif method == 'clustered':
        thresholds, clusters = _clustered(scores, labels, codes, units, alpha, seed)
    else:
        thresholds = [quantile(scores, codes, alpha)] * num_classes
    return PredictionSets(
        method, alpha, np.array(thresholds), units, len(patients), adjusting, clusters
    )


def quantile(scores: np.ndarray, codes: np.ndarray, alpha: float) -> float:
    """Returns the quantile of HCP: that of 1 - alpha, of one more patient than there are.

    Each of G patients has the weight 1 / (G + 1), each of its n_g images 1 / ((G + 1) n_g), and the score inf
    has the weight 1 / (G + 1) of the patient to come (Lee, Barber and Willett, 2023).

    Args:
      scores: [m] float64.
      codes: [m] int patient of each score.
      alpha: share to be left above.

    Returns:
      The least of the scores at or below which the weights add up to 1 - alpha; inf if they never do.
    """
    order = np.argsort(scores, kind='stable')
    reached = np.cumsum(_shared(codes)[order])
    wished = (len(np.unique(codes)) + 1) * (1 - alpha - _ROUNDING)
    place = int(np.searchsorted(reached, wished))
    return float(scores[order][place]) if place < len(scores) else np.inf


def _scores(probabilities: np.ndarray, prevalence: np.ndarray | None) -> np.ndarray:
    """Returns the scores, the less the better, of probabilities and their classes' prevalences."""
    return 1 - probabilities if prevalence is None else -probabilities / prevalence


def needed(alpha: float) -> float:
    """Returns the units below which the quantile of 1 - alpha is infinite: 1 / alpha - 1, less rounding."""
    return (1 / alpha - 1) * (1 - _ROUNDING)


def _adjusting(prevalence: Sequence[float] | np.ndarray | None, num_classes: int) -> np.ndarray:
    """Returns the prevalence to divide by; UserError if there is none."""
    if prevalence is None:
        raise UserError('prevalence_adjusted: give the share of each class in training.')
    shares = shares_of_classes(prevalence, num_classes)
    if not shares.all():
        raise UserError(
            f'prevalence_adjusted: class {int(shares.argmin())} has no training images; choose '
            'another method.'
        )
    return shares


def _clustered(
    scores: np.ndarray,
    labels: np.ndarray,
    codes: np.ndarray,
    units: np.ndarray,
    alpha: float,
    seed: int,
) -> tuple[list[float], np.ndarray]:
    """Returns [K] thresholds and [K] clusters of 'clustered' (Ding et al., 2023).

    The number of patients to cluster with and of clusters are by the paper's heuristic, in which the rarest
    class has n units (but no fewer than a quantile needs) and K' classes have as many: a share
    K' / (75 + K') of the patients, and one cluster for every two of the n that are in it.
    """
    rarest = max(int(units.min()), int(np.ceil(needed(alpha))))
    many = int((units >= rarest).sum())
    taken = rarest * many // (75 + many)
    rng = np.random.default_rng(seed)
    clustering = (rng.random(int(codes.max(initial=0)) + 1) < taken / rarest)[codes]
    clusters = np.full(len(units), NULL_CLUSTER, np.int64)
    parts = [np.flatnonzero(clustering & (labels == k)) for k in range(len(units))]
    common = [k for k, part in enumerate(parts) if len(np.unique(codes[part])) >= needed(alpha)]
    num_clusters = taken // 2
    if 1 < num_clusters < len(common):
        clusters[common] = _kmeans([scores[parts[k]] for k in common], num_clusters, alpha, seed)
    rest = np.flatnonzero(~clustering)
    by_cluster = {NULL_CLUSTER: quantile(scores[rest], codes[rest], alpha)}
    for cluster in range(clusters.max() + 1):
        chosen = rest[clusters[labels[rest]] == cluster]
        by_cluster[cluster] = quantile(scores[chosen], codes[chosen], alpha)
    return [by_cluster[cluster] for cluster in clusters.tolist()], clusters


def _kmeans(
    by_class: Sequence[np.ndarray], num_clusters: int, alpha: float, seed: int
) -> np.ndarray:
    """Returns the cluster of each class, from its scores: by their quantiles, weighed by sqrt(size)."""
    from sklearn.cluster import KMeans

    points = np.stack([np.quantile(scores, (*_QUANTILES, 1 - alpha)) for scores in by_class])
    weights = np.sqrt([len(scores) for scores in by_class])
    distinct = len(np.unique(points, axis=0))  # k-means warns where there are more clusters
    found = KMeans(min(num_clusters, distinct), n_init=10, random_state=seed)
    return found.fit(points, sample_weight=weights).labels_


def measures(
    labels: np.ndarray,
    sets: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    patients: np.ndarray | None = None,
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Returns the function that judges sets on the test images of resamples.

    As in the promise, a patient weighs as much as any other, and its images share its weight; in a figure of a
    class, those of them that are of the class.

    Args:
      labels: [n] int true classes.
      sets: [n, K] bool, from `PredictionSets.sets`.
      groups: class indices by group, from `ltjax.evaluation.groups.head_medium_tail`.
      patients: [n] int code of the patient of each image; None if each image is a patient of its own.

    Returns:
      A function of weights [r, n], how often each image is drawn, that returns float64: [r] 'coverage', the
      share of the images whose set holds their label, 'size', the mean number of labels in a set, 'empty' and
      'single', the shares of sets with no label and with one; [r, K] 'class coverage' and 'class size', of the
      images of each true class, NaN where there are none; and by group [r] '{group} coverage' and
      '{group} size', means over its classes that have images, NaN if none has.
    """
    num_images, num_classes = sets.shape
    images = np.arange(num_images)
    codes = images if patients is None else patients
    sizes, held = sets.sum(1), sets[images, labels]
    counts = np.stack([np.ones(num_images), held, sizes, sizes == 0, sizes == 1])
    by_class = counts[:3] * _shared(codes * num_classes + labels)
    in_all = counts * _shared(codes)
    rows = [labels + k * num_classes for k in range(3)]
    rows += [np.full(num_images, 3 * num_classes + k) for k in range(5)]
    values = np.concatenate([by_class.ravel(), in_all.ravel()])
    places = (np.concatenate(rows), np.tile(images, 8))
    counted = sparse.csr_array((values, places), (3 * num_classes + 5, num_images))

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        sums = (counted @ np.asarray(weights.T, np.float64)).T
        true, hit, size = np.split(sums[:, : 3 * num_classes], 3, axis=1)
        coverages, class_sizes = share(hit, true), share(size, true)
        drawn, *others = sums[:, 3 * num_classes :].T
        names = ('coverage', 'size', 'empty', 'single')
        figures = {name: share(one, drawn) for name, one in zip(names, others, strict=True)}
        figures |= {'class coverage': coverages, 'class size': class_sizes}
        for name, classes in groups.items():
            figures[f'{name} coverage'] = mean_of_defined(coverages[:, list(classes)])
            figures[f'{name} size'] = mean_of_defined(class_sizes[:, list(classes)])
        return figures

    return statistic


def _shared(codes: np.ndarray) -> np.ndarray:
    """Returns [n] the share that each image has of those with its code."""
    places, sizes = np.unique(codes, return_inverse=True, return_counts=True)[1:]
    return 1 / sizes[places]
