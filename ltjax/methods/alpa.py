"""ALPA (Kashyap et al., 2024): a yes-or-no decision a class, asymmetrically focused.

A single supervised stage. Each logit is the sigmoid's of its own class against the rest, trained by ALPA's rational
functions in place of the logarithms; the prediction is the class with the largest logit.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import losses
from ltjax.engine.stage import Recipe
from ltjax.errors import UserError
from ltjax.methods.supervised.heads import add_head
from ltjax.methods.supervised.logit_losses import Clip, LogitLoss, NotNegative, Positive
from ltjax.methods.supervised.stage import plain, supervised_stage
from ltjax.methods.task import Supervised, Task
from ltjax.settings import Choice, one_of

PerExample = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Custom:
    """ALPA's numbers for version 'custom', see `losses.alpa`; hill 0: none."""

    alpha: NotNegative
    beta: NotNegative
    gamma_pos: NotNegative
    gamma_neg: NotNegative
    hill: NotNegative


@dataclasses.dataclass(frozen=True)
class Config:
    """ALPA's values.

    Attributes:
      train: the stage.
      version: of ALPA, the paper's v1 to v3 or `custom`.
      clip: added to the probabilities of the other classes, as in the code; 0: eq. 11.
      coefficients: of the rational functions: the printed ones, or those that solve the paper's conditions (pade).
      classifier: 'cosine' times `cosine_scale`, or 'linear'.
      bias_init: of a linear classifier; 'uniform' and 'prior': sigmoids start at 1 / K, or at the class's share.
      reduction: over the batch; over the classes it is a sum.
    """

    train: Supervised
    version: Annotated[str, one_of((*losses.ALPA_VERSIONS, 'custom'))]
    custom: Custom
    clip: Clip
    coefficients: Annotated[str, one_of(tuple(losses.PADE_COEFFICIENTS))]
    classifier: Literal['linear', 'cosine']
    cosine_scale: Positive
    bias_init: Literal['layer', 'uniform', 'prior']
    reduction: Literal['mean', 'sum']


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the one supervised stage that `config` describes.

    Raises:
      UserError: a cosine classifier with a bias.
    """
    head = Choice('linear', {'bias_init': config.bias_init})
    if config.classifier == 'cosine':
        if config.bias_init != 'layer':
            raise UserError(
                f"bias_init {config.bias_init!r} has no bias to set in a cosine classifier: use 'layer'."
            )
        head = Choice('cosine', {'scale': config.cosine_scale})
    alpa = _alpa(config)

    def values(logits: jax.Array, labels: jax.Array, moment: Any) -> jax.Array:
        each = alpa(logits, labels)
        return len(labels) * each if config.reduction == 'sum' else each

    stage = supervised_stage(
        plain(config.train), task, name='alpa', head=head, loss=LogitLoss(values)
    )
    return Recipe((stage,), add_head(head, task), lambda state: gradients(config))


def _alpa(config: Config) -> PerExample:
    settings = losses.ALPA_VERSIONS.get(config.version)
    if settings is None:
        settings = dataclasses.asdict(config.custom) | {'hill': config.custom.hill or None}
    return functools.partial(
        losses.alpa,
        clip=config.clip,
        coefficients=losses.PADE_COEFFICIENTS[config.coefficients],
        **settings,
    )


def gradients(config: Config) -> Sequence[dict[str, Any]]:
    """Returns figure 1, the derivatives of the negative losses by the logit; and those of the positive ones.

    As `engine.stage.Recipe.plots` has them: 'lines' are the pairs (probabilities, derivatives) by the loss's name.
    """
    # The paper's curve of ALPA is that of p^5, gamma 4 applied once; eq. 11 and the code apply it twice.
    once = functools.partial(losses.alpa, alpha=1.0, beta=1.0, gamma_neg=2.0, clip=0.0)
    curves: dict[str, PerExample] = {
        f'ALPA {config.version}': _alpa(config),
        'ALPA, gamma 4 once': once,
        'ASL, m = gamma = 0.01': functools.partial(
            losses.asymmetric_multi_label, gamma_pos=0.0, gamma_neg=0.01, clip=0.01
        ),
        'cross-entropy': losses.sigmoid_cross_entropy,
        'focal, gamma 0.5': functools.partial(losses.sigmoid_focal, gamma=0.5),
    }
    probabilities = np.linspace(0.01, 0.99, 99)
    logits = jnp.asarray(np.log(probabilities) - np.log1p(-probabilities), jnp.float32)[:, None]

    def derivatives(loss: PerExample, target: float) -> list[float]:
        targets = jnp.full_like(logits, target)
        return jax.grad(lambda z: losses.total(loss(z, targets)))(logits)[:, 0].tolist()

    return [
        {
            'title': f'derivative of the {name} loss by the logit',
            'lines': {
                label: [probabilities.tolist(), derivatives(loss, target)]
                for label, loss in curves.items()
            },
            'x_label': 'probability p of the class',
            'y_label': 'derivative',
        }
        for name, target in (('negative', 0.0), ('positive', 1.0))
    ]
