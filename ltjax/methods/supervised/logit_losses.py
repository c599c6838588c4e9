"""Losses of logits and labels, from which the supervised stage chooses. To add one: a function, and its name below."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ltjax import losses
from ltjax.methods.task import Task
from ltjax.settings import Choices, at_least, from_to, from_to_below, positive

NotNegative = Annotated[float, at_least(0)]
Positive = Annotated[float, positive()]
Clip = Annotated[float, from_to_below(0, 1)]
Share = Annotated[float, from_to(0, 1)]


class Moment(NamedTuple):
    """What a loss may ask beside logits and labels.

    Attributes:
      key: of its random draws in this step.
      state: its own, see `LogitLoss`.
      teacher_logits: [B, K], of what the network is held near, a constant; None: of nothing.
    """

    key: jax.Array
    state: Any = None
    teacher_logits: jax.Array | None = None


class LogitLoss(NamedTuple):
    """A loss of logits.

    Attributes:
      values: (logits [B, K], labels [B], moment) -> [B].
      cosines: the logits must be those of a cosine classifier without a scale, which the loss brings.
      start: () -> its state before the first step; None: it has none.
      follow: (state, labels [B]) -> its state with this batch, before the values are computed.
    """

    values: Callable[[jax.Array, jax.Array, Moment], jax.Array]
    cosines: bool = False
    start: Callable[[], Any] | None = None
    follow: Callable[[Any, jax.Array], Any] | None = None


def plain(function: Callable[..., jax.Array], **values: Any) -> LogitLoss:
    """Returns the loss whose values are function(logits, labels, **values)."""
    return LogitLoss(lambda logits, labels, moment: function(logits, labels, **values))


LOSSES: Choices[LogitLoss] = Choices()


@LOSSES.add
def cross_entropy(task: Task) -> LogitLoss:
    """Softmax cross-entropy."""
    return plain(losses.softmax_cross_entropy)


@LOSSES.add
def sigmoid_cross_entropy(task: Task) -> LogitLoss:
    """A yes-or-no decision a class."""
    return plain(losses.sigmoid_cross_entropy)


@LOSSES.add
def softmax_binary_cross_entropy(task: Task) -> LogitLoss:
    """Binary cross-entropy of softmax probabilities, averaged over the classes (Alshammari et al., 2022)."""
    return LogitLoss(
        lambda logits, labels, moment: (
            losses.softmax_binary_cross_entropy(logits, labels) / logits.shape[1]
        )
    )


@LOSSES.add
def focal(task: Task, *, gamma: NotNegative = 2.0) -> LogitLoss:
    """Softmax focal loss."""
    return plain(losses.softmax_focal, gamma=gamma)


@LOSSES.add
def sigmoid_focal(task: Task, *, gamma: NotNegative = 2.0) -> LogitLoss:
    """Sigmoid focal loss (Lin et al., 2017)."""
    return plain(losses.sigmoid_focal, gamma=gamma)


@LOSSES.add
def asymmetric(
    task: Task, *, gamma_pos: NotNegative = 0.0, gamma_neg: NotNegative = 4.0, clip: Clip = 0.05
) -> LogitLoss:
    """ASL on sigmoids (Ridnik et al., 2021)."""
    return plain(losses.asymmetric_multi_label, gamma_pos=gamma_pos, gamma_neg=gamma_neg, clip=clip)


@LOSSES.add
def asymmetric_single(
    task: Task,
    *,
    gamma_pos: NotNegative = 0.0,
    gamma_neg: NotNegative = 4.0,
    label_smoothing: Clip = 0.1,
) -> LogitLoss:
    """ASL's form for one label an image."""
    return plain(
        losses.asymmetric_single_label,
        gamma_pos=gamma_pos,
        gamma_neg=gamma_neg,
        label_smoothing=label_smoothing,
    )


@LOSSES.add
def logit_adjustment(task: Task, *, tau: float = 1.0) -> LogitLoss:
    """Cross-entropy of logits + tau log prior; at tau 1 balanced softmax."""
    log_prior = jnp.asarray(losses.log_prior(task.train_counts), jnp.float32)
    return plain(losses.logit_adjusted, log_prior=log_prior, tau=tau)


@LOSSES.add
def vector_scaling(task: Task, *, gamma: NotNegative = 0.3, tau: float = 1.0) -> LogitLoss:
    """VS: a factor and an offset for each class's logit (Kini et al., 2021)."""
    return plain(
        losses.vector_scaling,
        scales=jnp.asarray(losses.vector_scales(task.train_counts, gamma=gamma), jnp.float32),
        log_prior=jnp.asarray(losses.log_prior(task.train_counts), jnp.float32),
        tau=tau,
    )


@LOSSES.add
def lade(
    task: Task,
    *,
    alpha: NotNegative = 0.1,
    penalty: NotNegative = 0.1,
    importance: Literal['classes', 'examples'] = 'classes',
) -> LogitLoss:
    """LADE: balanced softmax + alpha LADER (Hong et al., 2021), which is one number of the batch for all its images."""
    log_prior = jnp.asarray(losses.log_prior(task.train_counts), jnp.float32)

    def values(logits: jax.Array, labels: jax.Array, moment: Moment) -> jax.Array:
        regulariser = losses.lade_regulariser(
            logits, labels, log_prior=log_prior, penalty=penalty, importance=importance
        )
        balanced = losses.balanced_softmax(logits, labels, log_prior=log_prior)
        return balanced + alpha * regulariser

    return LogitLoss(values)


@LOSSES.add
def softmax_equalization(
    task: Task,
    *,
    gamma: Share = 0.9,
    threshold: NotNegative = 0.5,
) -> LogitLoss:
    """SEQL: rare classes are ignored as rivals with probability gamma (Tan et al., 2020).

    Rare is a class with less than `threshold` / K of the images: the paper's 0.005 of 100 classes is 0.5.
    """
    rare = losses.rare_classes(task.train_counts, threshold=threshold / task.num_classes)

    def values(logits: jax.Array, labels: jax.Array, moment: Moment) -> jax.Array:
        drawn = jax.random.bernoulli(moment.key, gamma, logits.shape)
        return losses.softmax_equalization(logits, labels, ignored=drawn & rare[None, :])

    return LogitLoss(values)


@LOSSES.add
def label_aware_smoothing(
    task: Task,
    *,
    head: Share = 0.3,
    tail: Share = 0.0,
    shape: Literal['concave', 'linear', 'convex', 'exp'] = 'concave',
    power: Positive = 1.0,
) -> LogitLoss:
    """MiSLAS: labels are smoothed from `tail` for the smallest class to `head` for the largest (Zhong et al., 2021)."""
    factors = losses.smoothing_factors(
        task.train_counts, head=head, tail=tail, shape=shape, power=power
    )
    return plain(losses.label_aware_smoothing, factors=jnp.asarray(factors, jnp.float32))


@LOSSES.add
def ldam(task: Task, *, max_margin: NotNegative = 0.5, scale: Positive = 30.0) -> LogitLoss:
    """Margins that grow with rarity, on cosines."""
    margins = jnp.asarray(losses.ldam_margins(task.train_counts, max_margin=max_margin))
    return plain(losses.ldam, margins=margins, scale=scale)._replace(cosines=True)


@LOSSES.add
def gaussian_clouded(
    task: Task,
    *,
    form: Literal['cosine', 'angle'] = 'cosine',
    noise_scale: NotNegative = 0.5,
    margin: NotNegative = 0.0,
    scale: Positive = 30.0,
    gamma: NotNegative = 0.0,
) -> LogitLoss:
    """GCL: noise on cosines, or on their angles, that is largest for rare classes; gamma is of the first form alone."""
    cloud = jnp.asarray(losses.cloud_sizes(task.train_counts), jnp.float32)
    shared: dict[str, Any] = {
        'cloud_size': cloud,
        'noise_scale': noise_scale,
        'margin': margin,
        'scale': scale,
    }

    def values(cosine: jax.Array, labels: jax.Array, moment: Moment) -> jax.Array:
        noise = jax.random.normal(moment.key, cosine.shape) / 3
        if form == 'angle':
            return losses.gaussian_clouded_angular(cosine, labels, noise=noise, **shared)
        return losses.gaussian_clouded(cosine, labels, noise=noise, gamma=gamma, **shared)

    return LogitLoss(values, cosines=True)


@LOSSES.add
def seesaw(
    task: Task, *, p: NotNegative = 0.8, q: NotNegative = 2.0, eps: Positive = 0.01
) -> LogitLoss:
    """Seesaw loss with the counts of the training so far."""

    def values(logits: jax.Array, labels: jax.Array, moment: Moment) -> jax.Array:
        return losses.seesaw(logits, labels, counts=moment.state, p=p, q=q, eps=eps)

    return LogitLoss(
        values,
        start=lambda: jnp.zeros(task.num_classes, jnp.int32),
        follow=losses.accumulated_counts,
    )
