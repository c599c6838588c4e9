"""What every loss must satisfy whatever it computes: described by a `Case`, tested by parametrisation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A loss with arguments to try it on.

    Attributes:
      name: the public function's name, with ':variant' behind it for further settings of it.
      loss: `loss(*floats, labels, where=None)`; the other arguments of the function are bound.
      floats: its differentiable arguments, float64, batch axis first; logits come first of all.
      labels: [batch] int32, or [batch, K] float64 targets.
      num_classes: K.
      per_example: whether it returns a value [batch] for each example that depends on that example
        alone; set losses (contrastive, relation) do not.
      takes_where: whether it has a `where` mask.
      logits: whether floats[0] are logits, to be tried at +-1e4; others are tried at 0.
      smooth: whether finite differences agree with its gradient; with detached factors they do not,
        and a case that says so without need fails.
      equals: what it must agree with: pairs (description, function of the same arguments).
    """

    name: str
    loss: Callable[..., Any]
    floats: tuple[np.ndarray, ...]
    labels: np.ndarray
    num_classes: int
    per_example: bool = True
    takes_where: bool = True
    logits: bool = True
    smooth: bool = True
    equals: tuple[tuple[str, Callable[..., Any]], ...] = ()
