"""The supervised stage: what its parts are, and how they become one loss."""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from ltjax import losses
from ltjax.engine.stage import Batch, Loss, Run, Stage, Stream
from ltjax.engine.state import TrainState
from ltjax.engine.step import key_for
from ltjax.errors import UserError
from ltjax.methods.supervised.logit_losses import LOSSES, LogitLoss, Moment
from ltjax.methods.supervised.mixing import MIXINGS, Mixed
from ltjax.methods.supervised.penalties import PENALTIES
from ltjax.methods.supervised.perturbing import PERTURBINGS
from ltjax.methods.supervised.sharpness import SHARPNESS
from ltjax.methods.supervised.weighting import WEIGHTS
from ltjax.methods.task import Supervised, Task, epochs_of
from ltjax.models import ImageClassifier
from ltjax.settings import Choice, at_least, choice_of, chosen, from_to

# (network, extra state, what the network says of the batch) -> the teacher's logits [B, K].
Teacher = Callable[[ImageClassifier, Any, Mixed], jax.Array]

LINEAR, CROSS_ENTROPY, NONE = Choice('linear'), Choice('cross_entropy'), Choice('none')


@dataclasses.dataclass(frozen=True)
class Learning(Supervised):
    """Epochs of a loss put together of parts.

    Attributes:
      loss: of the logits.
      mix: how images are mixed.
      weights: of the classes in the loss.
      divide_by: what the weighted sum of a batch is divided by: its 'images', or their 'weights'.
      defer_until: the epoch from which `weights` and `sampler` act; before it images are drawn as they are.
      keep: the share of a batch's images, those with the largest losses, that counts.
      sharpness: the weights of the network that the loss is taken at.
      penalty: added to the loss.
      perturb: what of the classifier the loss is taken at, see `perturbing`.
    """

    loss: Annotated[Choice, choice_of(LOSSES)] = CROSS_ENTROPY
    mix: Annotated[Choice, choice_of(MIXINGS)] = NONE
    weights: Annotated[Choice, choice_of(WEIGHTS)] = NONE
    divide_by: Literal['images', 'weights'] = 'images'
    defer_until: Annotated[int, at_least(0)] = 0
    keep: Annotated[float, from_to(0, 1)] = 1.0
    sharpness: Annotated[Choice, choice_of(SHARPNESS)] = NONE
    penalty: Annotated[Choice, choice_of(PENALTIES)] = NONE
    perturb: Annotated[Choice, choice_of(PERTURBINGS)] = NONE


def plain(config: Supervised) -> Learning:
    """Returns epochs of cross-entropy."""
    fields = dataclasses.fields(Supervised)
    return Learning(**{field.name: getattr(config, field.name) for field in fields})


def supervised_stage(
    config: Learning,
    task: Task,
    *,
    name: str = '',
    head: Choice = LINEAR,
    loss: LogitLoss | None = None,
    trains: str = 'all',
    batch_norm: str = 'batch',
    prepare: Callable[[TrainState, Run], TrainState] | None = None,
    teacher: Teacher | None = None,
) -> Stage:
    """Returns epochs of the loss that `config` describes; a round is an epoch.

    Args:
      config: its parts.
      task: the data set.
      name: of the stage; '': that of the loss.
      head: the classifier, see `heads.HEADS`.
      loss: in place of the one that `config` names.
      trains: see `Update`.
      batch_norm: see `Update`.
      prepare: see `Stage`.
      teacher: of a loss that is held near another network's logits, which the loss then finds in its `Moment`.

    Raises:
      UserError: parts that do not fit together.
    """
    loss = loss or chosen(LOSSES, config.loss)(task)
    _check(config, head, loss)
    mixing = chosen(MIXINGS, config.mix)(task)
    sharpness = chosen(SHARPNESS, config.sharpness)()
    penalty = None if config.penalty.name == 'none' else chosen(PENALTIES, config.penalty)()
    reduced = _reducer(config, task, loss)

    def loss_fn(
        model: ImageClassifier, extra: Any, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Loss:
        if loss.follow is not None:
            extra = extra | {'loss': loss.follow(extra['loss'], batch['label'])}
        moment = Moment(key_for(key, 'loss'), extra.get('loss'))

        def objective(model: ImageClassifier) -> tuple[jax.Array, dict[str, jax.Array]]:
            mixed = mixing.mixed(model, batch, key_for(key, 'mix'))
            taught = None if teacher is None else teacher(model, extra, mixed)
            value = reduced(model, mixed, moment._replace(teacher_logits=taught), step)
            if penalty is None:
                return value, {}
            added = penalty(model, mixed)
            return value + added, {'penalty': added}

        value, logged = sharpness(objective, model, key_for(key, 'sharpness'), trains)
        return Loss(value, logged, extra if loss.follow is not None else None)

    def begin(state: TrainState, run: Run) -> TrainState:
        if loss.start is not None:
            state = state._replace(extra=state.extra | {'loss': loss.start()})
        return state if prepare is None else prepare(state, run)

    views = {'view': task.view(config.view)}
    update = epochs_of(
        config,
        task,
        loss_fn,
        sampler=task.sampler(config.sampler, config.epochs, defer_until=config.defer_until),
        views=views,
        streams={stream: Stream(by, views) for stream, by in mixing.samplers.items()},
        trains=trains,
        batch_norm=batch_norm,
    )
    return Stage(name or config.loss.name, (update,), rounds=config.epochs, prepare=begin)


def _reducer(
    config: Learning, task: Task, loss: LogitLoss
) -> Callable[[ImageClassifier, Mixed, Moment, jax.Array], jax.Array]:
    """Returns (network, mixed, moment, step) -> the loss of a batch: []."""
    first_weighted = config.defer_until * task.steps(config.batch_size)
    perturbed = chosen(PERTURBINGS, config.perturb)(task, config)
    class_weights = None
    if config.weights.name != 'none':
        class_weights = jnp.asarray(chosen(WEIGHTS, config.weights)(task), jnp.float32)

    def weight_of(labels: jax.Array, step: jax.Array) -> jax.Array:
        if class_weights is None:
            return jnp.ones(len(labels))
        return jnp.where(step >= first_weighted, class_weights[labels], 1.0)

    def reduced(model: ImageClassifier, mixed: Mixed, moment: Moment, step: jax.Array) -> jax.Array:
        parts = [(mixed.share * weight_of(mixed.labels, step), mixed.labels)]
        if mixed.others is not None:
            parts.append(((1 - mixed.share) * weight_of(mixed.others, step), mixed.others))
        weights = functools.reduce(operator.add, (weight for weight, _ in parts))

        def of(logits: jax.Array) -> jax.Array:
            values = (weight * loss.values(logits, labels, moment) for weight, labels in parts)
            return functools.reduce(operator.add, values)

        values = perturbed(model.classifier, mixed, of, step)
        kept = None
        if config.keep < 1:
            kept = losses.hardest_examples(values, keep_ratio=config.keep)
        if config.divide_by == 'weights':
            return losses.total(values, kept) / losses.total(weights, kept)
        return losses.mean(values, kept)

    return reduced


def _check(config: Learning, head: Choice, loss: LogitLoss) -> None:
    if loss.cosines and (head.name != 'cosine' or head.values.get('scale', 1) != 1):
        raise UserError(
            f'loss {config.loss.name!r} takes cosines and scales them itself, which head {head.name!r} does not give: '
            "use head.name='cosine' with scale 1."
        )
    if config.defer_until and config.defer_until >= max(config.epochs, 1):
        raise UserError(
            f'defer_until {config.defer_until} is not before the end of {config.epochs} epochs: make it smaller.'
        )
    if (
        config.defer_until
        and config.weights.name == 'none'
        and config.sampler == 'instance_balanced'
    ):
        raise UserError(
            'defer_until defers nothing: choose weights or a sampler, or leave it at 0.'
        )
    if config.penalty.name != 'none' and config.mix.name != 'none':
        raise UserError(
            f'penalty {config.penalty.name!r} is of images of one class, which mix {config.mix.name!r} does not leave: '
            "use mix.name='none'."
        )
    if config.perturb.name != 'none' and (config.loss, config.weights) != (CROSS_ENTROPY, NONE):
        raise UserError(
            f"perturb {config.perturb.name!r} is of plain cross-entropy: use loss.name='cross_entropy' and "
            "weights.name='none'."
        )
    if config.perturb.name == 'features_by_class' and config.mix.name != 'none':
        raise UserError("perturb 'features_by_class' mixes no images: use mix.name='none'.")
    if not config.keep:
        raise UserError('keep is 0: use a share above 0, such as 0.7.')
