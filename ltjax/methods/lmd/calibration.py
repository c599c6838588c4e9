"""Stage 2 of LMD: iterative classifier calibration, eq. 6 to 12."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax import losses, sharding
from ltjax.engine import optim
from ltjax.engine.stage import Batch, Loss, Run, Stage, Update, reset_classifier
from ltjax.engine.state import TrainState
from ltjax.errors import UserError
from ltjax.methods.lmd.settings import Icc, Reading
from ltjax.methods.task import Task
from ltjax.models import ImageClassifier

# Without a ridge the covariance of a class with no more images than features is singular and has no Cholesky
# factor. The factor, and it alone, then gets this share of the mean variance on the diagonal.
FACTOR_RIDGE = 1e-4


def stage(config: Icc, task: Task, reading: Reading) -> Stage:
    """Returns the stage: rounds of an M-step of the classifier and an E-step of the encoder."""
    if config.statistics != 'variant':
        reading = dataclasses.replace(reading, vfc_statistics=config.statistics)
    frozen = task.on_features or not config.e_steps
    updates = [_m_step(config, task)]
    if not frozen:
        updates.append(_e_step(config, task, reading))
    features = None

    @functools.cache
    def estimate(mesh: jax.sharding.Mesh) -> Any:
        return jax.jit(estimator(config, task, reading, mesh))

    def prepare(state: TrainState, run: Run) -> TrainState:
        state = reset_classifier(state, run)
        dim = _feature_dim(state)
        zeros = losses.ClassGaussians(
            mean=jnp.zeros((task.num_classes, dim)),
            covariance=jnp.zeros((task.num_classes, dim, dim)),
            counts=jnp.zeros(task.num_classes, jnp.int32),
        )
        return state._replace(extra={'gaussians': zeros})

    def before_round(state: TrainState, run: Run, round_: int) -> TrainState:
        nonlocal features
        if features is None or not frozen:
            features = run.train_features(state)
        key = run.key('resample', round_)
        ema, scratch = estimate(run.mesh)(
            features, run.train_labels, state.extra['gaussians'], key, round_
        )
        return state._replace(extra={'gaussians': ema, 'round': scratch})

    return Stage(
        'icc', tuple(updates), rounds=config.rounds, prepare=prepare, before_round=before_round
    )


def _feature_dim(state: TrainState) -> int:
    return nnx.to_pure_dict(state.model)['classifier']['kernel'].shape[0]


def estimator(config: Icc, task: Task, reading: Reading, mesh: jax.sharding.Mesh) -> Any:
    """Returns (features, labels, EMA, key, round) -> (new EMA, what the round's steps need)."""
    total, num_classes = int(task.train_counts.sum()), task.num_classes
    factors = sharding.map_classes(functools.partial(_factors, reading=reading), mesh)
    whiten = sharding.map_classes(losses.whitening_matrices, mesh)
    counts = jnp.asarray(task.train_counts)

    def estimate(
        features: jax.Array,
        labels: jax.Array,
        ema: losses.ClassGaussians,
        key: jax.Array,
        round_: jax.Array,
    ) -> tuple[losses.ClassGaussians, dict[str, Any]]:
        index = jnp.arange(total)
        if config.balanced_m:
            index = losses.balanced_draws(key, labels, counts, -(-total // num_classes))
        now = losses.class_gaussians(
            features[index], labels[index], num_classes, ridge=reading.ridge
        )
        if reading.literal_counts:
            now = losses.with_expected_counts(now, len(index))
        alpha = losses.ema_decay(round_, decay=config.ema_decay)
        ema = losses.ema(ema, now, alpha)
        scratch: dict[str, Any] = {}
        if config.vfc:
            source = ema if reading.vfc_statistics == 'ema' else now
            scratch['virtual'] = (source.mean, factors(source.covariance))
        else:
            scratch['features'] = features
        if config.fdc:
            metric = ema.covariance
            if reading.mahalanobis:
                metric = whiten(factors(ema.covariance))
            scratch['distribution'] = (ema.mean, metric)
        return ema, scratch

    return estimate


def _factors(covariance: jax.Array, reading: Reading) -> jax.Array:
    if not reading.ridge:
        variance = jnp.diagonal(covariance, axis1=1, axis2=2).mean(axis=1) + 1e-6
        identity = jnp.eye(covariance.shape[-1])
        covariance = covariance + FACTOR_RIDGE * variance[:, None, None] * identity[None]
    return losses.cholesky_factors(covariance)


def shared_axis(num_classes: int, per_class: int, parts: int) -> int:
    """Returns what devices share of an M-step's draws [K, R, C]: 0, the classes, or 1, the draws of each class.

    Whichever leaves the busiest device fewer rows; if both leave as many the classes, whose factors it alone reads.

    Args:
      num_classes: K.
      per_class: R.
      parts: devices that share.

    >>> shared_axis(8, 44, 8), shared_axis(10, 32, 8)
    (0, 1)
    """
    by_classes = -(-num_classes // parts) * per_class
    by_draws = num_classes * -(-per_class // parts)
    return 0 if by_classes <= by_draws else 1


def _m_step(config: Icc, task: Task) -> Update:
    """Calibrates the classifier, eq. 8: R virtual (or, without VFC, real) features a class and round."""
    per_class = config.m_batch_size // task.num_classes
    if per_class == 0:
        raise UserError(
            f'm_batch_size {config.m_batch_size} holds less than one feature for each of '
            f'{task.num_classes} classes: use {task.num_classes} or more.'
        )
    steps = -(-config.virtual_per_class // per_class)

    def virtual_loss(
        model: ImageClassifier, extra: Any, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Loss:
        mean, cholesky = extra['round']['virtual']
        features, labels = losses.virtual_features(key, mean, cholesky, per_class)
        parts = sharding.data_parts(features)

        def loss(features: jax.Array, labels: jax.Array) -> jax.Array:
            return losses.mean(losses.softmax_cross_entropy(model.classify(features), labels))

        if parts == 1:
            return Loss(loss(features, labels))
        # With the two axes apart either can be split, evenly or not, and XLA splits the draws alike. All classes have
        # as many rows: the mean of their means is the mean.
        by_class = features.reshape(len(mean), per_class, -1)
        by_class = sharding.split_data(by_class, shared_axis(len(mean), per_class, parts))
        return Loss(losses.mean(jax.vmap(loss)(by_class, labels.reshape(len(mean), per_class))))

    def real_loss(
        model: ImageClassifier, extra: Any, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Loss:
        logits = model.classify(extra['round']['features'][batch['index']])
        return Loss(losses.mean(losses.softmax_cross_entropy(logits, batch['label'])))

    real_sampler = 'class_balanced' if config.balanced_m else 'instance_balanced'
    return Update(
        name='m_step',
        loss_fn=virtual_loss if config.vfc else real_loss,
        optimizer=optim.make(config.m_optimizer, config.rounds, steps),
        steps=steps,
        batch_size=config.m_batch_size,
        sampler=None if config.vfc else real_sampler,
        trains='classifier',
        batch_norm='running',
    )


def _e_step(config: Icc, task: Task, reading: Reading) -> Update:
    """Trains the encoder through the frozen classifier, eq. 12: label loss + lambda_e * FDC."""

    def label_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        if reading.label_loss == 'gce_constant':
            logits = jax.lax.stop_gradient(logits)
            return losses.mean(losses.generalized_cross_entropy(logits, labels))
        return losses.mean(losses.softmax_cross_entropy(logits, labels))

    def loss_fn(
        model: ImageClassifier, extra: Any, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Loss:
        outputs, labels = model(batch['view']), batch['label']
        loss = label_loss(outputs.logits, labels)
        terms = {'label_loss': loss}
        if config.fdc:
            mean, metric = extra['round']['distribution']
            measure = losses.squared_mahalanobis if reading.mahalanobis else losses.quadratic_form
            distances = measure(outputs.features, mean, metric)
            consistency = losses.mean(
                losses.feature_distribution_consistency(
                    distances, labels, max_repulsion=config.max_repulsion or None
                )
            )
            terms['fdc'] = consistency
            loss = loss + config.lambda_e * reading.fdc_sign * consistency
        return Loss(loss, terms)

    steps = task.steps(config.e_batch_size) if config.e_steps < 0 else config.e_steps
    return Update(
        name='e_step',
        loss_fn=loss_fn,
        optimizer=optim.make(config.e_optimizer, config.rounds, steps),
        steps=steps,
        batch_size=config.e_batch_size,
        sampler='class_balanced' if config.balanced_e else 'instance_balanced',
        views={'view': task.view(config.e_view)},
        trains='encoder',
        batch_norm=config.e_batch_norm,
    )
