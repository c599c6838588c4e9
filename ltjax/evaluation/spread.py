"""How well the resamples of a figure know its variance: by stratum, with its degrees of freedom.

Units are drawn within strata, so that the variance is a sum of one V_h a stratum. From n_h units it comes out too
small, by (n_h - 1) / n_h, and with n_h - 1 degrees of freedom; all together have those of Satterthwaite (Biometrics
Bulletin, 1946), V^2 / sum(V_h^2 / (n_h - 1)). So a mean over classes of which one has four patients is known as well as
four patients tell it, however many the others have.

V_h is the sum, over the units of the stratum, of the squared covariance between how often a unit is drawn and the
figure: the infinitesimal jackknife, less what it finds in R resamples by chance, (n_h - 1) V / R (Efron, Estimation
and Accuracy after Model Selection, JASA, 2014, sec. 4).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from ltjax.evaluation.counting import mean_of_defined

# The variance of strata with more units than this is taken together: their degrees of freedom do not matter.
_MANY = 100
# Units whose covariances are held at once.
_BLOCK = 4096


class Spread(NamedTuple):
    """Of each of E figures.

    Attributes:
      variance: float64 [E], between units, without the part of strata of one unit, which no resample shows.
      freedom: float64 [E], its degrees of freedom, at least 1; inf where the variance is 0.
    """

    variance: np.ndarray
    freedom: np.ndarray


def spread(samples: np.ndarray, drawn: np.ndarray, strata: Sequence[np.ndarray]) -> Spread:
    """Finds the variance of figures and its degrees of freedom.

    Args:
      samples: float [R, E] the figures of R resamples; NaN where a resample leaves one undefined.
      drawn: uint8 [R, units] how often each resample has each unit.
      strata: the units of each stratum. Units in none of them do not move the figures.
    """
    centred = np.nan_to_num(samples - mean_of_defined(samples, axis=0))
    resamples, num_figures = centred.shape
    variance = np.square(centred).mean(0)
    sizes = np.array([len(units) for units in strata])
    few = np.flatnonzero((sizes > 1) & (sizes <= _MANY))
    of_few = np.zeros((len(few), num_figures))
    members = (
        np.concatenate([strata[h] for h in few.tolist()]) if len(few) else np.zeros(0, np.int64)
    )
    stratum = np.repeat(np.arange(len(few)), sizes[few])
    for start in range(0, len(members), _BLOCK):
        part = slice(start, start + _BLOCK)
        covariance = drawn[:, members[part]].T.astype(np.float64) @ centred / resamples
        places = (stratum[part], np.arange(len(covariance)))
        within = sparse.csr_array((np.ones(len(covariance)), places), (len(few), len(covariance)))
        of_few += within @ np.square(covariance)
    freedom = (sizes[few] - 1)[:, None]
    of_few = np.maximum(of_few - freedom * variance / resamples, 0)
    rest = np.maximum(variance - of_few.sum(0), 0)
    freedom_of_rest = max(1, int((sizes[sizes > _MANY] - 1).sum()))
    corrected = of_few * (freedom + 1) / freedom
    total = rest + corrected.sum(0)
    uncertain = np.square(rest) / freedom_of_rest + (np.square(corrected) / freedom).sum(0)
    with np.errstate(invalid='ignore', divide='ignore'):
        known = np.square(total) / uncertain
    return Spread(total, np.where(total > 0, np.maximum(known, 1), np.inf))
