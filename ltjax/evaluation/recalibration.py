"""What is fitted on validation images and mends test probabilities: temperature, vector, prior.

Temperature and vector scaling are of Guo et al., "On calibration of modern neural networks", ICML
2017, sec. 4.2. They are fitted on logits of images that were not trained on, and not tested on. The
change of prior is of Saerens et al., "Adjusting the outputs of a classifier to new a priori
probabilities", Neural Computation 14, 2002.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy import optimize, special

from ltjax.errors import UserError

# The least and the greatest temperature. Of logits that tell all validation images apart the best one is zero:
# certainty, which some test image would be the first to refute.
TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class Temperature:
    """Logits are divided by one number: the predicted classes stay.

    Attributes:
      temperature: above one the probabilities become less certain.
    """

    temperature: float

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Returns float64 logits [n, K] of logits [n, K]."""
        return np.asarray(logits, np.float64) / self.temperature

    def to_json(self) -> dict[str, float]:
        """Returns {'temperature'}."""
        return {'temperature': self.temperature}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Returns what `to_json` was given."""
        return cls(float(stored['temperature']))


@dataclass(frozen=True)
class VectorScaling:
    """Each class's logit is multiplied by its own number and moved: predicted classes may change.

    Logits are centred first (less their mean over the classes), so that the result is a function of the
    probabilities alone; Guo et al. take logits as they are.

    Attributes:
      scale: [K] factors of the centred logits.
      bias: [K] what is added to them.
    """

    scale: tuple[float, ...]
    bias: tuple[float, ...]

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Returns float64 logits [n, K] of logits [n, K]; ValueError if K is another."""
        if np.shape(logits)[-1] != len(self.scale):
            raise ValueError(f'logits {np.shape(logits)} for {len(self.scale)} classes')
        return _centred(logits) * np.array(self.scale) + np.array(self.bias)

    def to_json(self) -> dict[str, list[float]]:
        """Returns {'scale', 'bias'}, lists of K numbers."""
        return {'scale': list(self.scale), 'bias': list(self.bias)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Returns what `to_json` was given."""
        scale, bias = ([float(value) for value in stored[name]] for name in ('scale', 'bias'))
        return cls(tuple(scale), tuple(bias))


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> Temperature:
    """Returns the temperature with the least mean log loss on validation images.

    The loss is convex in 1/T: its derivative, mean_i sum_k p_ik (z_ik - z_iy), has one zero, which
    is bracketed (Brent). Where it has none within TEMPERATURES, the nearer end is the answer; the
    lower one means that the validation images are told apart perfectly, the upper one that the
    logits say nothing of them. Logits that are equal for all classes, in every image, have no
    temperature: they get 1.

    Args:
      labels: [n] int true classes.
      logits: [n, K] float.

    Raises:
      UserError: there are images of fewer than two classes, or a logit is not finite.
    """
    _check(labels, logits)
    centred = _centred(logits)
    # Less the logit of the true class, the log loss is that of all these at zero.
    margins = centred - np.take_along_axis(centred, np.asarray(labels)[:, None], 1)
    if not margins.any():
        return Temperature(1.0)

    def slope(log_temperature: float) -> float:
        """The derivative of the loss by 1/T."""
        inverse = np.exp(-log_temperature)
        return float(np.einsum('nk,nk', special.softmax(margins * inverse, axis=1), margins))

    low, high = np.log(TEMPERATURES)
    if slope(low) <= 0:
        return Temperature(TEMPERATURES[0])
    if slope(high) >= 0:
        return Temperature(TEMPERATURES[1])
    return Temperature(float(np.exp(optimize.brentq(slope, low, high, xtol=1e-12))))


def fit_vector(labels: np.ndarray, logits: np.ndarray) -> VectorScaling:
    """Returns the vector scaling with the least penalised log loss on validation images.

    With u the centred logits over the temperature of `fit_temperature`, it minimises over a and b, [K] each,

        sum_i log loss of (a * u_i + b)  +  1/2 sum_k ((a_k - 1)^2 + b_k^2),

    which is convex; the scale is a / T. The ridge is a normal prior of deviation one around temperature
    scaling (Guo et al. have none). Beside hundreds of images of a class it is nothing; a class of few is
    moved little on their word, and the bias of a class without any, which would otherwise go to
    minus infinity, stays finite.

    Args:
      labels: [n] int true classes.
      logits: [n, K] float.

    Raises:
      UserError: there are images of fewer than two classes, or a logit is not finite.
    """
    temperature = fit_temperature(labels, logits).temperature
    scaled = _centred(logits) / temperature
    num_images, num_classes = scaled.shape
    true = np.zeros(scaled.shape)
    true[np.arange(num_images), labels] = 1.0

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """The mean over the images, and its gradient [2K]."""
        scale, bias = parameters.reshape(2, -1)
        moved = scaled * scale + bias
        log_probabilities = special.log_softmax(moved, axis=1)
        errors = np.exp(log_probabilities) - true
        off = np.stack([scale - 1, bias])
        value = 0.5 * (off**2).sum() - (true * log_probabilities).sum()
        gradient = off + np.stack([np.einsum('nk,nk->k', errors, scaled), errors.sum(0)])
        return value / num_images, gradient.ravel() / num_images

    start = np.repeat([1.0, 0.0], num_classes)
    found = optimize.minimize(
        loss,
        start,
        jac=True,
        method='L-BFGS-B',
        options={'maxiter': 1000, 'maxfun': 2000, 'ftol': 1e-14, 'gtol': 1e-8},
    )
    scale, bias = found.x.reshape(2, -1)
    return VectorScaling(tuple((scale / temperature).tolist()), tuple(bias.tolist()))


# What a run fits, and what it is read back as.
FITS: Mapping[str, Callable[[np.ndarray, np.ndarray], Temperature | VectorScaling]] = {
    'temperature': fit_temperature,
    'vector': fit_vector,
}
SCALINGS: Mapping[str, type[Temperature] | type[VectorScaling]] = {
    'temperature': Temperature,
    'vector': VectorScaling,
}


def correct_prior(
    probabilities: np.ndarray, trained: Sequence[float], target: Sequence[float]
) -> np.ndarray:
    """Returns the probabilities under other shares of the classes (Saerens et al. 2002, eq. 2.4).

    p'_k is in proportion to p_k target_k / trained_k. It is right where only the shares differ: what an
    image of a class looks like must be the same there.

    Args:
      probabilities: [n, K] float64, rows sum to one.
      trained: [K] shares of the classes that the probabilities presume: those of the training images,
        or 1/K each where a sampler or loss balanced them. Numbers of images will do.
      target: [K] shares of the classes where the images come from, zero for a class that does not occur there.

    Returns:
      [n, K] float64, rows sum to one. An image that has probability zero for every class of the
      target gets the target shares: nothing is known of it.

    Raises:
      UserError: a share is negative or not finite, all of the target are zero, or one of `trained` is.
    """
    before = _trained_shares(trained)
    after = _shares('target', target)
    weighted = probabilities * (after / before)
    totals = weighted.sum(1, keepdims=True)
    return np.where(totals > 0, weighted, after) / np.where(totals > 0, totals, 1.0)


def estimate_prior(
    probabilities: np.ndarray,
    trained: Sequence[float],
    *,
    tolerance: float = 1e-8,
    max_iterations: int = 1000,
) -> np.ndarray:
    """Estimates the shares of the classes among unlabelled images (Saerens et al. 2002, eq. 2.9).

    Expectation-maximisation: the images' probabilities are corrected for the shares found so far,
    and their means are the next shares. Each iteration makes the images likelier, and there is one maximum.
    **The probabilities must be calibrated** under `trained` (fit a temperature first): the
    estimate takes every miscalibration for another share. Of few images, or of classes that are hardly told
    apart, it is uncertain, and the iterations converge slowly.

    Args:
      probabilities: [n, K] float64, rows sum to one.
      trained: [K] shares that the probabilities presume, as in `correct_prior`.
      tolerance: it ends when no share changes by more than this in an iteration,
      max_iterations: or after so many, with what it has then.

    Returns:
      [K] float64 shares, which sum to one.

    Raises:
      UserError: there are no images, or a share of `trained` is not above zero and finite.
    """
    if not len(probabilities):
        raise UserError('no images to estimate the class shares from: give some predictions.')
    before = _trained_shares(trained)
    likelihoods = probabilities / before
    shares = before
    for _ in range(max_iterations):
        # The mean of the corrected probabilities, without an array of them.
        following = shares * ((1 / (likelihoods @ shares)) @ likelihoods) / len(likelihoods)
        change = np.abs(following - shares).max()
        shares = following
        if change <= tolerance:
            break
    return shares / shares.sum()


def _centred(logits: np.ndarray) -> np.ndarray:
    """Returns float64 logits [n, K] less their mean over the classes."""
    logits = np.asarray(logits, np.float64)
    return logits - logits.mean(-1, keepdims=True)


def _check(labels: np.ndarray, logits: np.ndarray) -> None:
    present = np.unique(labels)
    if len(present) < 2:
        found = f'images of class {present[0]} alone' if len(present) else 'no images'
        raise UserError(
            f'the validation split has {found}: recalibration needs two classes or more, choose a '
            'split that has them.'
        )
    finite = np.isfinite(logits).all(axis=-1)
    if not finite.all():
        raise UserError(
            f'validation logits of {np.count_nonzero(~finite)} of {len(finite)} images are not '
            'finite: training diverged; lower the learning rate or clip the gradients.'
        )


def _shares(name: str, shares: Sequence[float]) -> np.ndarray:
    """Returns shares [K] that sum to one."""
    values = np.asarray(shares, np.float64)
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise UserError(f'{name} class shares {values.tolist()}: give numbers of zero or more.')
    return values / values.sum()


def _trained_shares(trained: Sequence[float]) -> np.ndarray:
    """Returns shares [K] of which none is zero."""
    shares = _shares('trained', trained)
    missing = np.flatnonzero(shares == 0)
    if len(missing):
        raise UserError(
            f'class {missing[0]} has a trained share of zero, so its probabilities mean nothing '
            'under another: leave it out, or train with images of it.'
        )
    return shares
