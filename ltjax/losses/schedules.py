"""Learning rates and coefficients by epoch, as the baselines' authors have them.

Epochs count from 0. A function that takes no epoch returns an `optax.Schedule`: epoch in, value
out, under jit too, for one epoch or an array of them. The few that take an epoch run on the host in
numpy float64, since probabilities and weights are made of them.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from ltjax.losses.class_weights import effective_number_weights

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def _epochs(epoch: ArrayLike) -> jax.Array:
    return jnp.asarray(epoch, float)


def warmup_multistep(
    peak: float,
    *,
    warmup_epochs: int,
    drops: Mapping[int, float],
    warmup_start: float = 0.0,
    ramp_epochs: int | None = None,
) -> optax.Schedule:
    """Linear warm-up, then a constant that is multiplied at milestones.

    peak (s + (1 - s) (e + 1) / warmup_epochs) in the first epochs, s being warmup_start, and then
    peak times the factors of all milestones that have been reached.

    Args:
      peak: learning rate after the warm-up.
      warmup_epochs: at the end of which the ramp is at the peak; 0 for none.
      drops: factor by milestone, each on top of those before.
      warmup_start: fraction of the peak that the ramp starts from.
      ramp_epochs: how many epochs follow the ramp; None is warmup_epochs.

    >>> rate = warmup_multistep(1.0, warmup_epochs=2, drops={3: 0.1})
    >>> [round(float(value), 4) for value in rate(jnp.arange(4))]
    [0.5, 1.0, 1.0, 0.1]
    """
    ramp_epochs = warmup_epochs if ramp_epochs is None else ramp_epochs
    steps = optax.piecewise_constant_schedule(peak, dict(drops))

    def rate(epoch: ArrayLike) -> jax.Array:
        epochs = _epochs(epoch)
        slope = (1 - warmup_start) / max(warmup_epochs, 1)
        ramp = peak * (warmup_start + slope * (epochs + 1))
        return jnp.where(epochs < ramp_epochs, ramp, steps(epochs))

    return rate


def ldam_learning_rate(peak: float) -> optax.Schedule:
    """200 epochs of LDAM-DRW and M2m: 5 of warm-up to the peak, times 0.01 at 160 and again at 180.

    Source: Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss",
    NeurIPS 2019.

    >>> [round(float(ldam_learning_rate(0.1)(epoch)), 6) for epoch in (0, 5, 160, 180)]
    [0.02, 0.1, 0.001, 1e-05]
    """
    return warmup_multistep(peak, warmup_epochs=5, drops={160: 0.01, 180: 0.01})


def gcl_learning_rate(peak: float) -> optax.Schedule:
    """200 epochs of GCL's first stage: 5 of warm-up to the peak, times 0.1 at 160 and again at 180.

    Source: Li et al., "Long-tailed visual recognition via Gaussian clouded logit adjustment", CVPR
    2022; released code.

    >>> [round(float(gcl_learning_rate(0.1)(epoch)), 6) for epoch in (0, 5, 160, 180)]
    [0.02, 0.1, 0.01, 0.001]
    """
    return warmup_multistep(peak, warmup_epochs=5, drops={160: 0.1, 180: 0.1})


def gcl_finetune_learning_rate(peak: float, *, epochs: int = 30) -> optax.Schedule:
    """GCL's second stage: a cosine from peak / 50 to 0.

    Args:
      peak: learning rate of the first stage.
      epochs: length of the second.

    Source: Li et al., CVPR 2022; released code.

    >>> round(float(gcl_finetune_learning_rate(0.1)(0)), 6)
    0.002
    """
    return cosine_schedule(0.02 * peak, epochs=epochs)


def paco_learning_rate(peak: float) -> optax.Schedule:
    """400 epochs of PaCo: 10 of warm-up to the peak, times 0.1 from 321 and again from 361.

    Source: Cui et al., "Parametric contrastive learning", ICCV 2021.

    Reading: as in the released code the ramp runs one epoch too long, so that epoch 10 has 1.1 peak.

    >>> [round(float(paco_learning_rate(0.1)(epoch)), 6) for epoch in (0, 10, 11, 321, 361)]
    [0.01, 0.11, 0.1, 0.01, 0.001]
    """
    return warmup_multistep(peak, warmup_epochs=10, ramp_epochs=11, drops={321: 0.1, 361: 0.1})


def cc_sam_learning_rate(peak: float) -> optax.Schedule:
    """200 epochs of CC-SAM's first stage: warm-up from a third of the peak, times 0.1 at 159 and again at 179.

    Source: Zhou et al., "Class-conditional sharpness-aware minimization for deep long-tailed
    recognition", CVPR 2023.

    Reading: the released code steps its scheduler before the epoch, so that all comes one epoch
    earlier than its milestones 160 and 180 say.

    >>> [round(float(cc_sam_learning_rate(0.3)(epoch)), 6) for epoch in (0, 4, 159, 179)]
    [0.14, 0.3, 0.03, 0.003]
    """
    drops = {159: 0.1, 179: 0.1}
    return warmup_multistep(peak, warmup_epochs=5, warmup_start=1 / 3, drops=drops)


def aduni_learning_rate(
    peak: float, *, epochs: int = 400, warmup_epochs: int = 10, decay_rate: float = 0.1
) -> optax.Schedule:
    """Warm-up, then the cosine to peak decay_rate^3, as if there had been no warm-up.

    Args:
      peak: learning rate after the warm-up.
      epochs: at which the cosine ends; the authors train one epoch more.
      warmup_epochs: peak (e + 1) / warmup_epochs while e is below.
      decay_rate: its cube is the least fraction of the peak.

    Source: Cong et al. (AdUni), MLMI 2022; released code.

    >>> [round(float(aduni_learning_rate(0.1)(epoch)), 6) for epoch in (0, 9, 400)]
    [0.01, 0.1, 0.0001]
    """
    ramp = warmup_multistep(peak, warmup_epochs=warmup_epochs, drops={})
    decay = cosine_schedule(peak, floor=peak * decay_rate**3, epochs=epochs)
    return lambda epoch: jnp.where(_epochs(epoch) < warmup_epochs, ramp(epoch), decay(epoch))


def cosine_schedule(peak: float, *, epochs: int, floor: float = 0.0) -> optax.Schedule:
    """Half a cosine, floor + (peak - floor) (1 + cos(pi e / epochs)) / 2.

    Unlike optax's it is periodic, as the released codes have it: behind its end it rises again.

    Args:
      peak: value at epoch 0.
      epochs: at which the floor is reached.
      floor: least value.

    Source: Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017,
    equation 5, without restarts.

    >>> [round(float(cosine_schedule(2.0, epochs=4)(epoch)), 4) for epoch in (0, 2, 4)]
    [2.0, 1.0, 0.0]
    """
    return lambda epoch: (
        floor + (peak - floor) * (1 + jnp.cos(jnp.pi * _epochs(epoch) / epochs)) / 2
    )


def aduni_alpha(
    peak: float = 1.0,
    floor: float = 0.01,
    *,
    decay_epochs: int = 1000,
    reading: Literal['compounded', 'half_cosine', 'printed'] = 'compounded',
) -> optax.Schedule:
    """Weight of the positives in AduC, which falls from peak to floor.

    Args:
      peak: value at epoch 0.
      floor: least value.
      decay_epochs: T, period of the cosine (1 + cos(pi e / T)) / 2.
      reading: 'compounded' floor + (peak - floor) times the product of that cosine over the epochs
        0..e; 'half_cosine' with the cosine of epoch e alone; 'printed' without its 1 / 2.

    Raises:
      ValueError: an unknown reading.

    Source: Cong et al. (AdUni), MLMI 2022, the schedule of alpha.

    Reading: the released code applies the rule to the alpha of the epoch before, which is the
    default: 0.44 at epoch 100 where the half cosine has 0.98. As printed it starts at 1.99.

    >>> [round(float(aduni_alpha()(epoch)), 2) for epoch in (0, 50, 100, 200)]
    [1.0, 0.9, 0.44, 0.01]
    """
    half_cosine = cosine_schedule(1.0, epochs=decay_epochs)
    # The product is 0 from epoch T on: its last factor is.
    shares = np.cumprod((1 + np.cos(np.pi * np.arange(decay_epochs + 1) / decay_epochs)) / 2)

    def compounded(epoch: ArrayLike) -> jax.Array:
        index = jnp.clip(jnp.asarray(epoch, int), 0, decay_epochs)
        return jnp.asarray(shares, float)[index]

    share = {
        'compounded': compounded,
        'half_cosine': half_cosine,
        'printed': lambda epoch: 2 * half_cosine(epoch),
    }.get(reading)
    if share is None:
        raise ValueError(
            f"reading must be 'compounded', 'half_cosine' or 'printed', got {reading!r}"
        )
    return lambda epoch: floor + (peak - floor) * share(epoch)


def bilateral_coefficient(epochs: int) -> optax.Schedule:
    """BBN's cumulative learning, alpha = 1 - (e / E)^2 with epochs from 0.

    Args:
      epochs: E, of the training.

    Source: Zhou et al., "BBN: bilateral-branch network with cumulative learning for long-tailed
    visual recognition", CVPR 2020, which counts epochs from 1.

    Reading: as in the released code 100 and 200 stand for E if the training has 90 or 180 epochs.

    >>> bilateral_coefficient(200)(jnp.array([0, 100])).tolist()
    [1.0, 0.75]
    """
    divisor = {90: 100, 180: 200}.get(epochs, epochs)
    return lambda epoch: 1 - jnp.square(_epochs(epoch) / divisor)


def cc_sam_coefficient(*, start: int, end: int, limit: float = 1.0) -> optax.Schedule:
    """Weight of the shifted features in CC-SAM's second stage, min((e - start + 1) / (end - start), limit).

    Args:
      start: first epoch of the stage; 0 before it.
      end: epoch behind the last.
      limit: greatest weight.

    Source: Zhou et al., CVPR 2023; released code.

    >>> [round(float(cc_sam_coefficient(start=200, end=230)(epoch)), 4) for epoch in (200, 229)]
    [0.0333, 1.0]
    """
    return lambda epoch: jnp.clip((_epochs(epoch) - start + 1) / (end - start), 0, limit)


def progressive_share(epoch: int | np.ndarray, *, epochs: int) -> Floats:
    """Share of class-balanced sampling, t = e / (epochs - 1), from 0 in the first to 1 in the last.

    Args:
      epoch: from 0; a number or an array.
      epochs: of the training; a single epoch has t = 0.

    Returns:
      float64 of the shape of epoch.

    Source: Kang et al., "Decoupling representation and classifier for long-tailed recognition",
    ICLR 2020, equation 2.

    >>> progressive_share(np.array([0, 1, 2]), epochs=3).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.asarray(epoch, np.float64) / max(epochs - 1, 1)


def deferred_beta(epoch: int | np.ndarray, *, start: int = 160, beta: float = 0.9999) -> Floats:
    """Beta of the effective number in deferred re-weighting: 0 before epoch `start`.

    Args:
      epoch: from 0; a number or an array.
      start: first epoch that is re-weighted.
      beta: from then on.

    Returns:
      float64 of the shape of epoch.

    Source: Cao et al., NeurIPS 2019, algorithm 1.

    >>> deferred_beta(np.array([159, 160])).tolist()
    [0.0, 0.9999]
    """
    return np.where(np.asarray(epoch) >= start, beta, 0.0)


def deferred_weights(
    counts: Sequence[int] | np.ndarray, *, epoch: int, start: int = 160, beta: float = 0.9999
) -> Floats:
    """Class weights of deferred re-weighting (DRW): all 1 and then by the effective number.

    Args:
      counts: [K] training images of each class.
      epoch: from 0.
      start: first epoch that is re-weighted.
      beta: from then on.

    Returns:
      [K] weights, which sum to K.

    Source: Cao et al., NeurIPS 2019, algorithm 1 with the weights of its released code.

    >>> deferred_weights([1000, 10], epoch=159).tolist()
    [1.0, 1.0]
    """
    now = float(deferred_beta(epoch, start=start, beta=beta))
    return effective_number_weights(counts, beta=now)
