"""ALPA (Kashyap et al., 2024): a yes-or-no decision a class, asymmetrically focused, and what it is compared with.

A single supervised stage. Each logit is the sigmoid's of its own class against the rest, trained by ALPA's rational
functions in place of the logarithms; the prediction is the class with the largest logit. `config.loss` puts one of
the other losses in its place and changes nothing else; LDAM alone brings a classifier of its own, scaled cosines,
which `config.classifier` gives to the others too.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltjax import losses
from ltjax.engine.stage import Recipe
from ltjax.engine.state import TrainState
from ltjax.errors import UserError
from ltjax.methods.task import LogitLoss, Supervised, Task, supervised_stage
from ltjax.models.resnet_cifar import CosineClassifier
from ltjax.settings import at_least, from_to_below, one_of, positive

Positive = Annotated[float, positive()]
NotNegative = Annotated[float, at_least(0)]
Clip = Annotated[float, from_to_below(0, 1)]


@dataclasses.dataclass(frozen=True)
class Custom:
    """ALPA's numbers for version 'custom', see `losses.alpa`; hill 0: none."""

    alpha: NotNegative
    beta: NotNegative
    gamma_pos: NotNegative
    gamma_neg: NotNegative
    hill: NotNegative


@dataclasses.dataclass(frozen=True)
class Focal:
    """See `losses.sigmoid_focal`."""

    gamma: NotNegative


@dataclasses.dataclass(frozen=True)
class Asl:
    """See `losses.asymmetric_multi_label`."""

    gamma_pos: NotNegative
    gamma_neg: NotNegative
    clip: Clip


@dataclasses.dataclass(frozen=True)
class Ldam:
    """See `losses.ldam`."""

    max_margin: NotNegative
    scale: Positive


@dataclasses.dataclass(frozen=True)
class Config:
    """ALPA's values.

    Attributes:
      train: the stage.
      loss: ALPA or what it is compared with.
      version: of ALPA, the paper's v1 to v3 or `custom`.
      clip: added to the probabilities of the other classes, as in the code; 0: eq. 11.
      coefficients: of the rational functions: the printed ones, or those that solve the paper's conditions (pade).
      classifier: 'cosine' times `cosine_scale`, or 'linear'. LDAM has cosines of its own scale.
      bias_init: of a linear classifier; 'uniform' and 'prior': sigmoids start at 1 / K, or at the class's share.
      reduction: over the batch; over the classes it is a sum.
    """

    train: Supervised
    loss: Literal['alpa', 'cross_entropy', 'sigmoid_cross_entropy', 'focal', 'asl', 'ldam']
    version: Annotated[str, one_of((*losses.ALPA_VERSIONS, 'custom'))]
    custom: Custom
    clip: Clip
    coefficients: Annotated[str, one_of(tuple(losses.PADE_COEFFICIENTS))]
    focal: Focal
    asl: Asl
    ldam: Ldam
    classifier: Literal['linear', 'cosine']
    cosine_scale: Positive
    bias_init: Literal['layer', 'uniform', 'prior']
    reduction: Literal['mean', 'sum']


class ScaledCosineClassifier(CosineClassifier):
    """Cosines times a scale: logits for LDAM, and for other losses that ask for them."""

    def __init__(self, inputs: int, outputs: int, *, scale: float, rngs: nnx.Rngs) -> None:
        super().__init__(inputs, outputs, rngs=rngs)
        self.scale = scale

    def __call__(self, features: jax.Array) -> jax.Array:
        return self.scale * super().__call__(features)


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the one supervised stage that `config.train` and `config.loss` describe.

    Raises:
      UserError: a cosine classifier with a bias.
    """
    if _cosine_scale(config) is not None and config.bias_init != 'layer':
        raise UserError(
            f"bias_init {config.bias_init!r} has no bias to set in a cosine classifier: use 'layer'."
        )
    loss = _LOSSES[config.loss](config, task)

    def summed(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return len(labels) * loss(logits, labels)

    def add_heads(model: Any, rngs: nnx.Rngs) -> None:
        scale = _cosine_scale(config)
        if scale is not None:
            model.classifier = ScaledCosineClassifier(
                model.feature_dim, task.num_classes, scale=scale, rngs=rngs
            )
        elif config.bias_init != 'layer':
            model.classifier.bias[...] = _bias(config.bias_init, task)

    chosen = summed if config.reduction == 'sum' else loss
    stage = supervised_stage('alpa', config.train, task, chosen)
    return Recipe((stage,), add_heads, lambda state: _plots(config, state))


def _cosine_scale(config: Config) -> float | None:
    """Returns the scale of the cosine classifier, None where the classifier is the network's own."""
    if config.loss == 'ldam':
        return config.ldam.scale
    return config.cosine_scale if config.classifier == 'cosine' else None


def _alpa(config: Config) -> LogitLoss:
    settings = losses.ALPA_VERSIONS.get(config.version)
    if settings is None:
        settings = dataclasses.asdict(config.custom) | {'hill': config.custom.hill or None}
    return functools.partial(
        losses.alpa,
        clip=config.clip,
        coefficients=losses.PADE_COEFFICIENTS[config.coefficients],
        **settings,
    )


def _asl(config: Config, task: Task) -> LogitLoss:
    return functools.partial(losses.asymmetric_multi_label, **dataclasses.asdict(config.asl))


def _focal(config: Config, task: Task) -> LogitLoss:
    return functools.partial(losses.sigmoid_focal, gamma=config.focal.gamma)


def _ldam(config: Config, task: Task) -> LogitLoss:
    margins = losses.ldam_margins(task.train_counts, max_margin=config.ldam.max_margin)
    scale = config.ldam.scale

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return losses.ldam(
            logits / scale, labels, margins=jnp.asarray(margins, logits.dtype), scale=scale
        )

    return loss


_LOSSES: dict[str, Callable[[Config, Task], LogitLoss]] = {
    'alpa': lambda config, task: _alpa(config),
    'cross_entropy': lambda config, task: losses.softmax_cross_entropy,
    'sigmoid_cross_entropy': lambda config, task: losses.sigmoid_cross_entropy,
    'focal': _focal,
    'asl': _asl,
    'ldam': _ldam,
}


def _bias(init: str, task: Task) -> np.ndarray:
    """Returns the bias [K] whose sigmoids are 1 / K, or each class's share of the training images."""
    counts = np.maximum(task.train_counts, 1)
    priors = counts / counts.sum() if init == 'prior' else np.full(len(counts), 1 / len(counts))
    return np.array([losses.sigmoid_bias_init(prior) for prior in priors], np.float32)


def _plots(config: Config, state: TrainState) -> Sequence[dict[str, Any]]:
    """Returns figure 1, the derivatives of the negative losses by the logit; and those of the positive ones."""
    # The paper's curve of ALPA is that of p^5, gamma 4 applied once; eq. 11 and the code apply it twice.
    once = functools.partial(losses.alpa, alpha=1.0, beta=1.0, gamma_neg=2.0, clip=0.0)
    curves: dict[str, LogitLoss] = {
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

    def derivatives(loss: LogitLoss, target: float) -> list[float]:
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
