"""An optimiser as a plain object. Values only: imports in no time."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal

from ltjax.settings import at_least, from_to, from_to_below


@dataclasses.dataclass(frozen=True)
class Group:
    """Shares, for some parameters, of the learning rate and of the weight decay."""

    rate: Annotated[float, at_least(0)] = 1.0
    decay: Annotated[float, at_least(0)] = 1.0


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimiser.

    Attributes:
      name: of optax.
      learning_rate: at its highest.
      schedule: of the rate.
      floor: the rate at which a cosine ends.
      milestones: rounds (epochs, where a round is one) after which 'multistep' multiplies the rate by `factor`.
      factor: see `milestones`.
      warmup_epochs: rounds over which the rate rises from zero; those of the schedule include them.
      momentum, nesterov: of 'sgd'.
      weight_decay: L2, as in torch's SGD, for 'sgd' and 'adam'; decoupled for 'adamw'.
      clip_norm: the largest global norm of a gradient; 0: none.
      max_norm: the largest norm of the weights of a class in the classifier, to which each step
        projects them; 0: none.
      max_norm_threshold: as `max_norm`, at this share of the way from the smallest norm of a class to the largest,
        as they are when the stage begins; 0: none.
      box: how far a step may bring any parameter from where it was when the stage began; 0: anywhere.
      layer_decay: what share of the rate a block has of that of the next, the last block of that of the heads, and the
        stem of that of the first block (Bao et al. 2022, "BEiT", and timm); blocks are those that train. 1: all alike.
      groups: by a part of their path ('bias', 'classifier/kernel'; or 'encoder': all but the
        classifier), what parameters have of the rate and of the weight decay. Shares multiply.
    """

    name: Literal['sgd', 'adam', 'adamw']
    learning_rate: Annotated[float, at_least(0)]
    schedule: Literal['constant', 'cosine', 'multistep'] = 'constant'
    floor: Annotated[float, at_least(0)] = 0.0
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    warmup_epochs: Annotated[float, at_least(0)] = 0.0
    momentum: Annotated[float, from_to_below(0, 1)] = 0.0
    nesterov: bool = False
    weight_decay: Annotated[float, at_least(0)] = 0.0
    clip_norm: Annotated[float, at_least(0)] = 0.0
    max_norm: Annotated[float, at_least(0)] = 0.0
    max_norm_threshold: Annotated[float, from_to(0, 1)] = 0.0
    box: Annotated[float, at_least(0)] = 0.0
    layer_decay: Annotated[float, from_to(0, 1)] = 1.0
    groups: Mapping[str, Group] = dataclasses.field(default_factory=dict)
