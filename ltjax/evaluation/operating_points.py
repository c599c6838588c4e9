"""What a classifier is worth to whoever acts on it: operating points, decision curves and referral.

Thresholds are chosen on validation images and judged on test images. Every figure is a function of weights
[r, n], how often each test image is drawn in each of r resamples, see `ltjax.evaluation.bootstrap`.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ltjax.errors import UserError
from ltjax.evaluation.counting import add_up, mean_of_defined, share, table

Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]

# Shares of the images that are sent to a human.
SHARES = tuple(tenth / 10 for tenth in range(10))


def choose(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    sensitivity: float | None = None,
    specificity: float | None = None,
) -> np.ndarray:
    """Chooses for each class the threshold of its probability, one class against the rest.

    An image is called positive where its probability is at least the threshold; images of equal probability
    are called alike, so the sensitivity or specificity that is reached may be above the wished one.

    Args:
      labels: [n] int true classes of the validation images.
      probabilities: [n, K] float64.
      sensitivity: wished share of a class's images that are called positive, above 0 and at most 1. The
        threshold is the largest that reaches it.
      specificity: wished share of the other images that are not called positive, above 0 and at most 1. The
        threshold is the smallest number that reaches it: the next float64 above an image's probability.

    Returns:
      [K] float64 thresholds; NaN where the class has no validation images, or no others are there.

    Raises:
      UserError: both are given or neither, or what is given is not above 0 and at most 1.

    >>> labels, first = np.array([0, 0, 0, 1]), np.array([0.9, 0.6, 0.3, 0.5])
    >>> choose(labels, np.stack([first, 1 - first], 1), sensitivity=0.6).tolist()
    [0.6, 0.5]
    """
    if (sensitivity is None) == (specificity is None):
        raise UserError('an operating point: give either a sensitivity or a specificity.')
    name = 'specificity' if sensitivity is None else 'sensitivity'
    wished = specificity if sensitivity is None else sensitivity
    if wished is None or not 0 < wished <= 1:
        raise UserError(f'{name} {wished}: choose a number above 0 and at most 1, such as 0.95.')
    thresholds = np.full(probabilities.shape[1], np.nan)
    for k, scores in enumerate(np.ascontiguousarray(probabilities.T)):
        positive = labels == k
        if not 0 < np.count_nonzero(positive) < len(labels):
            continue
        if sensitivity is None:
            # All negatives up to this one have to lie below the threshold.
            ordered = np.sort(scores[~positive])
            thresholds[k] = np.nextafter(ordered[_first_to_reach(wished, len(ordered))], np.inf)
        else:
            ordered = -np.sort(-scores[positive])
            thresholds[k] = ordered[_first_to_reach(wished, len(ordered))]
    return thresholds


def _first_to_reach(wished: float, number: int) -> int:
    """Returns the first place among `number` images up to which their share is at least the wished one.

    The shares are divided as those are that they are compared with: 55 of 100 are 0.55, where 0.55 times 100
    is a little more than 55.
    """
    return int(np.searchsorted(np.arange(1, number + 1) / number, wished))


def measures(
    labels: np.ndarray,
    probabilities: np.ndarray,
    thresholds: np.ndarray,
    prevalence: Sequence[float] | np.ndarray | None = None,
) -> Statistic:
    """Returns the function that judges thresholds on the test images of resamples.

    Args:
      labels: [n] int true classes.
      probabilities: [n, K] float64.
      thresholds: [K] float64, from `choose`; at least the threshold is positive.
      prevalence: [K] share of each class among the patients that are meant, where it is not that of the test
        set.

    Returns:
      A function of weights [r, n] that returns [r, K] shares 'sensitivity', 'specificity', and at the test
      set's prevalence 'ppv' and 'npv' (positive and negative predictive value); with a prevalence also
      'ppv at prevalence' and 'npv at prevalence', by Bayes' rule from the share of each class that is called
      the class: those who do not have it are another mixture there than in the test. NaN where a figure is
      undefined: of a class whose threshold is NaN or that has no test images all are, else a share of images
      of which none were drawn (a ppv where nothing is called positive), and predictive values where another
      class that is meant has none.

    Raises:
      UserError: a prevalence is not within 0 and 1.
      ValueError: there is not one prevalence for each class.
    """
    num_images, num_classes = probabilities.shape
    meant = None if prevalence is None else shares_of_classes(prevalence, num_classes)
    images, classes = np.nonzero(probabilities >= thresholds)
    hits = labels[images] == classes
    counted = table(
        np.concatenate([labels, num_classes + classes, 2 * num_classes + classes[hits]]),
        np.concatenate([np.arange(num_images), images, images[hits]]),
        (3 * num_classes, num_images),
    )
    of_pairs = (num_classes**2, num_images)
    by_class = table(labels[images] * num_classes + classes, images, of_pairs)
    unknown = np.isnan(thresholds) | (np.bincount(labels, minlength=num_classes) == 0)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        true, called, hit = np.split(add_up(weights, counted), 3, axis=1)
        drawn = true.sum(1, keepdims=True)
        others = drawn - true
        passed = others - (called - hit)
        figures = {
            'sensitivity': share(hit, true),
            'specificity': share(passed, others),
            'ppv': share(hit, called),
            'npv': share(passed, drawn - called),
        }
        if meant is not None:
            pairs = add_up(weights, by_class).reshape(-1, num_classes, num_classes)
            found, alarms = figures['sensitivity'], _false_alarms(pairs, true, meant)
            right, wrong = found * meant, alarms * (1 - meant)
            figures['ppv at prevalence'] = share(right, right + wrong)
            right, wrong = (1 - alarms) * (1 - meant), (1 - found) * meant
            figures['npv at prevalence'] = share(right, right + wrong)
        return {name: np.where(unknown, np.nan, values) for name, values in figures.items()}

    return statistic


def _false_alarms(pairs: np.ndarray, true: np.ndarray, meant: np.ndarray) -> np.ndarray:
    """Returns [r, K] the share of the patients without a class who are called it, among those that are meant.

    Args:
      pairs: [r, K, K] images of the first class that are called the second.
      true: [r, K] images of each class.
      meant: [K] share of each class among the patients that are meant.

    Returns:
      The mean of the other classes' shares by how common they are; NaN where one that occurs has no image.
    """
    others = meant[:, None] * ~np.eye(len(meant), dtype=bool)
    occur = others.any(1)
    rates = share(pairs[:, occur], np.broadcast_to(true[:, occur, None], pairs[:, occur].shape))
    called = np.where(others[occur] > 0, others[occur] * rates, 0).sum(1)
    return np.where(others.any(0), called / np.where(others.any(0), others.sum(0), 1), 0)


def shares_of_classes(values: Sequence[float] | np.ndarray, num_classes: int) -> np.ndarray:
    """Returns prevalences as float64 [K]; UserError if one is no share, ValueError if they are not K."""
    shares = np.asarray(values, np.float64)
    if shares.shape != (num_classes,):
        raise ValueError(f'{num_classes} classes need as many prevalences, not {shares.shape}')
    wrong = ~((shares >= 0) & (shares <= 1))
    if wrong.any():
        k = int(wrong.argmax())
        raise UserError(f'prevalence {shares[k]} of class {k}: give a share from 0 to 1.')
    return shares


def net_benefit(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[int],
    thresholds: Sequence[float] | np.ndarray,
) -> Statistic:
    """Returns the function that draws the decision curves of classes (Vickers and Elkin, 2006).

    Whoever treats from a probability t on holds one needless treatment to be worth t / (1 - t) of one that was
    needed. The net benefit is what is won: TP / n - FP / n * t / (1 - t). To treat none wins 0.

    Args:
      labels: [n] int true classes.
      probabilities: [n, K] float64.
      classes: [C] the classes that are treated, each against the rest. All at once, since the weights are
        then read once.
      thresholds: [T] probabilities t from 0 to below 1, rising.

    Returns:
      A function of weights [r, n] that returns [r, C, T] float64 'model' and 'treat all', in images won for
      each image. NaN where the class has no test images.

    Raises:
      UserError: the thresholds do not rise, or do not lie from 0 to below 1.
    """
    grid = _rising(thresholds, 'thresholds of a decision curve')
    odds = grid / (1 - grid)
    chosen = np.asarray(classes, np.int64)
    positive = labels[:, None] == chosen
    # An image is treated at the first so many thresholds. Of others, those treated at none need no count.
    treated = np.searchsorted(grid, probabilities[:, chosen], side='right')
    images, places = np.nonzero(positive | (treated > 0))
    shape = (len(chosen), 2, len(grid) + 1)
    bins = np.ravel_multi_index(
        (places, positive[images, places].astype(int), treated[images, places]), shape
    )
    counted = table(bins, images, (int(np.prod(shape)), len(labels)))
    unknown = ~positive.any(0)[:, None]

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn = weights.sum(1)[:, None, None]
        sums = _from_the_end(add_up(weights, counted).reshape(-1, *shape))
        ill = sums[:, :, 1, :1]
        needless, needed = np.moveaxis(sums[..., 1:], 2, 0)
        figures = {
            'model': share(needed - needless * odds, drawn),
            'treat all': share(ill - (drawn - ill) * odds, drawn),
        }
        return {name: np.where(unknown, np.nan, values) for name, values in figures.items()}

    return statistic


def referral(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    shares: Sequence[float] = SHARES,
) -> Statistic:
    """Returns the function that judges the images that stay when the least certain ones go to a human.

    Images are sent from the least top probability on. Which ones are sent is decided once, on the test set as
    it is; a resample draws an image with its decision. Images of equal top probability are sent together or
    stay together, since their order in the file may be that of their classes: at a share, as many are sent as
    can be without more than the share. Softmax outputs that are all exactly 1 therefore stay.

    Args:
      labels: [n] int true classes.
      probabilities: [n, K] float64.
      groups: class indices by group, from `ltjax.evaluation.groups.head_medium_tail`.
      shares: [S] shares of the images to send, from 0 to below 1, rising.

    Returns:
      A function of weights [r, n] that returns [r, S] float64 'sent', the share of the drawn images that is
      sent, and of those that stay 'accuracy', 'balanced accuracy' and 'tail recall'. The last two are means
      over those classes of which an image stays; NaN where there are none.

    Raises:
      UserError: the shares do not rise, or do not lie from 0 to below 1.
    """
    grid = _rising(shares, 'shares of images to send')
    num_images, num_classes = probabilities.shape
    certainty, right = probabilities.max(1), probabilities.argmax(1) == labels
    # At most so many images are sent; the next one stays, and with it all that are as certain.
    numbers = np.searchsorted(np.arange(num_images + 1) / num_images, grid, side='right') - 1
    cuts = np.sort(certainty)[numbers]
    # An image stays at the first so many shares.
    stays = np.searchsorted(cuts, certainty, side='right')
    num_bins, images = len(grid) + 1, np.arange(num_images)
    places = stays * num_classes + labels
    counted = table(
        np.concatenate([places, num_bins * num_classes + places[right]]),
        np.concatenate([images, images[right]]),
        (2 * num_bins * num_classes, num_images),
    )
    tail = list(groups.get('tail', ()))

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        bins = add_up(weights, counted).reshape(len(weights), 2, num_bins, num_classes)
        true, correct = np.moveaxis(_from_the_end(bins, axis=2)[:, :, 1:], 1, 0)
        drawn = weights.sum(1, keepdims=True)
        recalls = share(correct, true)
        return {
            'sent': share(drawn - true.sum(-1), drawn),
            'accuracy': share(correct.sum(-1), true.sum(-1)),
            'balanced accuracy': mean_of_defined(recalls),
            'tail recall': mean_of_defined(recalls[..., tail]),
        }

    return statistic


def _rising(values: Sequence[float] | np.ndarray, name: str) -> np.ndarray:
    """Returns values as float64; UserError unless they rise and lie from 0 to below 1."""
    grid = np.asarray(values, np.float64)
    if not len(grid) or not (grid[0] >= 0 and grid[-1] < 1 and (np.diff(grid) > 0).all()):
        raise UserError(f'{name}: give numbers from 0 to below 1, from the least to the largest.')
    return grid


def _from_the_end(bins: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns for each bin the sum of it and of all bins after it."""
    return np.flip(np.flip(bins, axis).cumsum(axis), axis)
