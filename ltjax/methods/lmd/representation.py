"""Stage 1 of LMD: relation-aware representation learning, eq. 3 to 5."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax import losses
from ltjax.engine.stage import Batch, Loss, Run, Stage
from ltjax.engine.state import TrainState, with_parameters
from ltjax.methods.lmd.settings import Reading, Rrl
from ltjax.methods.task import Task, epochs_of
from ltjax.models import ImageClassifier


def stage(config: Rrl, task: Task, reading: Reading) -> Stage:
    """Returns the stage: the student learns labels, and agrees with its EMA teacher."""
    start = 0 if reading.from_start else config.start_epoch * task.steps(config.batch_size)

    def loss_fn(
        model: ImageClassifier, extra: Any, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Loss:
        teacher = with_parameters(model, extra['teacher'])
        theirs = jax.tree.map(jax.lax.stop_gradient, teacher(batch['weak']))
        ours = model(batch['strong'])
        logits = ours.logits
        if reading.cross_entropy_view == 'weak':
            logits = model(batch['weak']).logits
        terms = {
            'cross_entropy': losses.mean(losses.softmax_cross_entropy(logits, batch['label'])),
            'sample': losses.sample_relation(
                ours.features, theirs.features, normalise=reading.normalise_gram
            ),
            'channel': losses.channel_relation(
                ours.features,
                theirs.features,
                normalise=reading.normalise_gram,
                divisor=reading.channel_divisor,
            ),
            'probability': losses.mean(
                losses.probability_consistency(
                    ours.logits, theirs.logits, direction=reading.divergence
                )
            ),
        }
        weight = jnp.where(step >= start, config.weight, 0.0)
        consistency = terms['sample'] + terms['channel'] + terms['probability'] / 2
        return Loss(terms['cross_entropy'] + weight * consistency, terms)

    def update_teacher(extra: Any, model: nnx.State[Any, Any], step: jax.Array) -> Any:
        parameters, _ = nnx.split_state(model, nnx.Param, ...)
        alpha = losses.ema_decay(step, decay=config.ema_decay)
        return extra | {'teacher': losses.ema(extra['teacher'], parameters, alpha)}

    def add_teacher(state: TrainState, run: Run) -> TrainState:
        parameters, _ = nnx.split_state(state.model, nnx.Param, ...)
        return state._replace(extra={'teacher': jax.tree.map(jnp.copy, parameters)})

    update = epochs_of(
        config,
        task,
        loss_fn,
        sampler=config.sampler,
        views={'strong': task.view(config.view), 'weak': task.view(config.teacher_view)},
        after_step=update_teacher,
    )
    return Stage('rrl', (update,), rounds=config.epochs, prepare=add_teacher)
