"""LMD's values, and its readings: what the paper leaves open or prints differently from its code."""

import dataclasses
from typing import Annotated, Literal

from ltjax.engine.optim import Optimizer
from ltjax.methods.task import Supervised
from ltjax.settings import one_of


@dataclasses.dataclass(frozen=True)
class Reading:
    """One reading of what the paper leaves open or prints differently from its code.

    Attributes:
      normalise_gram: rows of the Gram matrices have unit length in eq. 4 and 5.
      channel_divisor: of eq. 5, 'channels' or 'batch'.
      divergence: direction of the KL of eq. 3.
      cross_entropy_view: of stage 1, 'strong' or 'weak'.
      from_start: the consistency terms act from the first step, whatever `start_epoch` says.
      mahalanobis: distances by the inverse covariance; False: by the covariance, as eq. 10 and 11 print it.
      fdc_sign: 1 minimises attraction - repulsion; -1 the reverse, as the authors' code does.
      label_loss: of the E-step; 'gce_constant' is the authors' GCE, computed without gradient.
      vfc_statistics: virtual features from this 'round' or from the 'ema'.
      ridge: added to the covariance's diagonal.
      literal_counts: eq. 7's factors K/N and K/(N-K) in place of the counts of the resampled set.
    """

    normalise_gram: bool = True
    channel_divisor: Literal['channels', 'batch'] = 'channels'
    divergence: Literal['teacher_to_student', 'student_to_teacher'] = 'teacher_to_student'
    cross_entropy_view: Literal['strong', 'weak'] = 'strong'
    from_start: bool = False
    mahalanobis: bool = True
    fdc_sign: int = 1
    label_loss: Literal['cross_entropy', 'gce_constant'] = 'cross_entropy'
    vfc_statistics: Literal['round', 'ema'] = 'round'
    ridge: float = 0.01
    literal_counts: bool = False


READINGS = {
    'default': Reading(),
    'paper': Reading(
        normalise_gram=False,
        divergence='student_to_teacher',
        cross_entropy_view='weak',
        from_start=True,
        mahalanobis=False,
        vfc_statistics='ema',
        ridge=0.0,
        literal_counts=True,
    ),
    'authors': Reading(channel_divisor='batch', fdc_sign=-1, label_loss='gce_constant'),
}


@dataclasses.dataclass(frozen=True)
class Rrl(Supervised):
    """Stage 1, relation-aware representation learning; `view` is the student's.

    Attributes:
      enabled: False trains by cross-entropy alone.
      teacher_view: of the EMA teacher.
      weight: lambda_1, of the consistency terms.
      start_epoch: from which they act.
      ema_decay: of the teacher, at most.
    """

    enabled: bool
    teacher_view: str
    weight: float
    start_epoch: int
    ema_decay: float


@dataclasses.dataclass(frozen=True)
class Icc:
    """Stage 2, iterative classifier calibration.

    Attributes:
      enabled: whether there is one.
      vfc: the M-step's features are virtual; False: the training images' own.
      fdc: the E-step's feature distribution consistency.
      rounds: J.
      virtual_per_class: R, virtual features a class and round.
      m_batch_size: features in a step of the classifier.
      e_batch_size: images in a step of the encoder.
      e_steps: steps of the encoder a round; -1: one pass, 0: none, the encoder stays frozen.
      e_view: augmentations of the E-step.
      e_batch_norm: see `Update`.
      balanced_m: Gaussians are estimated on a class-balanced draw.
      balanced_e: the E-step's sampler is class-balanced.
      lambda_e: weight of FDC, eq. 12.
      max_repulsion: bound on a squared distance; 0: none, as in the paper.
      statistics: virtual features from this 'round' or the 'ema'; 'variant': as the variant reads it.
      ema_decay: of the Gaussians, at most.
      m_optimizer: of the classifier.
      e_optimizer: of the encoder.
    """

    enabled: bool
    vfc: bool
    fdc: bool
    rounds: int
    virtual_per_class: int
    m_batch_size: int
    e_batch_size: int
    e_steps: int
    e_view: str
    e_batch_norm: str
    balanced_m: bool
    balanced_e: bool
    lambda_e: float
    max_repulsion: float
    statistics: Literal['variant', 'round', 'ema']
    ema_decay: float
    m_optimizer: Optimizer
    e_optimizer: Optimizer


@dataclasses.dataclass(frozen=True)
class Config:
    """LMD's values; `variant` is one of `READINGS`, see docs/lmd.md."""

    variant: Annotated[str, one_of(READINGS)]
    rrl: Rrl
    icc: Icc
