"""LMD (Pan et al., 2025): relation-aware representation learning, then iterative classifier calibration.

Stage 1 (RRL): the student learns the labels on strongly augmented images and agrees with its EMA teacher, which sees
weakly augmented ones, in the relations between samples, between channels, and in its predictions.
Stage 2 (ICC), J rounds: the M-step trains a re-initialised classifier on virtual features drawn from each
class's Gaussian (VFC); the E-step trains the encoder through the frozen classifier, kept near its class by FDC.
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax import losses, sharding
from ltjax.engine import optim
from ltjax.engine.stage import Batch, Loss, Recipe, Run, Stage, Update, reset_classifier
from ltjax.engine.state import TrainState, with_parameters
from ltjax.errors import UserError, unknown
from ltjax.methods.task import Task, supervised_stage
from ltjax.models import ImageClassifier


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

# Without a ridge the covariance of a class with no more images than features is singular and has no Cholesky
# factor. The factor, and it alone, then gets this share of the mean variance on the diagonal.
FACTOR_RIDGE = 1e-4


def recipe(config: Any, task: Task) -> Recipe:
    """Returns stage 1 (`config.rrl`) and stage 2 (`config.icc`, if enabled).

    Raises:
      UserError: an unknown variant or source of statistics, or batches too small for the classes.
    """
    if config.variant not in READINGS:
        raise unknown('variant', config.variant, READINGS)
    reading = READINGS[config.variant]
    if config.rrl.enabled:
        first = _rrl(config.rrl, task, reading)
    else:
        first = supervised_stage('cross_entropy', config.rrl, task, losses.softmax_cross_entropy)
    stages = (first, _icc(config.icc, task, reading)) if config.icc.enabled else (first,)
    return Recipe(stages)


# Stage 1: relation-aware representation learning, eq. 3 to 5.


def _rrl(config: Any, task: Task, reading: Reading) -> Stage:
    steps = task.steps(config.batch_size)
    start = 0 if reading.from_start else config.start_epoch * steps

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

    def update_teacher(extra: Any, model: nnx.State, step: jax.Array) -> Any:
        parameters, _ = nnx.split_state(model, nnx.Param, ...)
        alpha = losses.ema_decay(step, decay=config.ema_decay)
        return extra | {'teacher': losses.ema(extra['teacher'], parameters, alpha)}

    def add_teacher(state: TrainState, run: Run) -> TrainState:
        parameters, _ = nnx.split_state(state.model, nnx.Param, ...)
        return state._replace(extra={'teacher': jax.tree.map(jnp.copy, parameters)})

    update = Update(
        name='train',
        loss_fn=loss_fn,
        optimizer=optim.make(config.optimizer, config.epochs * steps),
        steps=steps,
        batch_size=config.batch_size,
        sampler=config.sampler,
        views={'strong': task.view(config.view), 'weak': task.view(config.teacher_view)},
        after_step=update_teacher,
    )
    return Stage('rrl', (update,), rounds=config.epochs, prepare=add_teacher)


# Stage 2: iterative classifier calibration, eq. 6 to 12.


def _icc(config: Any, task: Task, reading: Reading) -> Stage:
    if config.statistics not in ('variant', 'round', 'ema'):
        raise unknown('source of statistics', config.statistics, ('variant', 'round', 'ema'))
    if config.statistics != 'variant':
        reading = dataclasses.replace(reading, vfc_statistics=config.statistics)
    updates = [_m_step(config, task)]
    if config.e_steps:
        updates.append(_e_step(config, task, reading))
    frozen = not config.e_steps
    features = None

    @functools.cache
    def estimate(mesh: jax.sharding.Mesh) -> Any:
        return jax.jit(_estimator(config, task, reading, mesh))

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


def _estimator(config: Any, task: Task, reading: Reading, mesh: jax.sharding.Mesh) -> Any:
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


def _m_step(config: Any, task: Task) -> Update:
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
        values = losses.softmax_cross_entropy(model.classify(features), labels)
        return Loss(losses.mean(values))

    def real_loss(
        model: ImageClassifier, extra: Any, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Loss:
        logits = model.classify(extra['round']['features'][batch['index']])
        return Loss(losses.mean(losses.softmax_cross_entropy(logits, batch['label'])))

    real_sampler = 'class_balanced' if config.balanced_m else 'instance_balanced'
    return Update(
        name='m_step',
        loss_fn=virtual_loss if config.vfc else real_loss,
        optimizer=optim.make(config.m_optimizer, config.rounds * steps),
        steps=steps,
        batch_size=config.m_batch_size,
        sampler=None if config.vfc else real_sampler,
        trains='classifier',
        batch_norm='running',
    )


def _e_step(config: Any, task: Task, reading: Reading) -> Update:
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
        optimizer=optim.make(config.e_optimizer, config.rounds * steps),
        steps=steps,
        batch_size=config.e_batch_size,
        sampler='class_balanced' if config.balanced_e else 'instance_balanced',
        views={'view': task.view(config.e_view)},
        trains='encoder',
        batch_norm=config.e_batch_norm,
    )
