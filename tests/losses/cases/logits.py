"""Cases of the losses on logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from losses.conformance import Case
from ltjax.losses import branches, classification, focal, margin, samplers

BATCH, CLASSES = 8, 4  # a batch of 8 is shared out to eight devices as it is
COUNTS = [70, 20, 9, 2]
LOG_PRIOR = samplers.log_prior(COUNTS)
REVERSED = branches.reversed_log_prior(COUNTS)
MARGINS = margin.ldam_margins(COUNTS)
CLOUDS = margin.cloud_sizes(COUNTS)
WEIGHTS = np.array([0.3, 0.6, 1.1, 2.0])
LABELS = np.array([0, 1, 2, 3, 0, 2, 1, 0], np.int32)
_RNG = np.random.default_rng(0)
LOGITS = 2 * _RNG.normal(size=(BATCH, CLASSES))
COSINES = _RNG.uniform(-0.95, 0.95, (BATCH, CLASSES))
NOISE = _RNG.uniform(0.05, 0.9, (BATCH, CLASSES))
SOFT_TARGETS = _RNG.dirichlet(np.ones(CLASSES), BATCH)

bind = functools.partial
cross_entropy = classification.softmax_cross_entropy
adjusted = bind(classification.logit_adjusted, log_prior=LOG_PRIOR)
gce = classification.generalized_cross_entropy
soft = classification.soft_target_cross_entropy
inverse = bind(branches.inverse_softmax, log_prior=LOG_PRIOR, reversed_log_prior=REVERSED)
softmax_focal = focal.softmax_focal


def case(name, loss, *floats, labels=LABELS, **fields):
    return Case(name, loss, floats or (LOGITS,), labels, CLASSES, **fields)


def onehot(labels, dtype=jnp.float32):
    return jax.nn.one_hot(labels, CLASSES, dtype=dtype)


def clouded(cosine, noise, labels, **options):
    return margin.gaussian_clouded(cosine, labels, noise=noise, **options)


def angular(cosine, noise, labels, **options):
    return margin.gaussian_clouded_angular(cosine, labels, noise=noise, **options)


def seesaw_by_hand(logits, labels):
    """The equations of the paper class by class."""
    counts = jnp.array(COUNTS, jnp.float32)
    p = jax.nn.softmax(logits)
    own_p = jnp.take_along_axis(p, labels[:, None], axis=1)
    mitigation = jnp.minimum(counts[None, :] / counts[labels][:, None], 1) ** 0.8
    compensation = jnp.maximum(p / jnp.maximum(own_p, 0.01), 1) ** 2
    scores = jnp.exp(logits) * jnp.where(onehot(labels, bool), 1, mitigation * compensation)
    return -jnp.log(jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0] / scores.sum(axis=1))


CASES = [
    case(
        'balanced_softmax',
        bind(classification.balanced_softmax, log_prior=LOG_PRIOR),
        equals=(('logit adjustment of strength 1', bind(adjusted, tau=1.0)),),
    ),
    case(
        'inverse_softmax',
        inverse,
        equals=(
            (
                'an adjustment by both',
                lambda z, y: adjusted(z, y, log_prior=LOG_PRIOR - 2 * REVERSED),
            ),
        ),
    ),
    case(
        'inverse_softmax:tau_0',
        bind(inverse, tau=0.0),
        equals=(('balanced softmax', adjusted),),
    ),
    case(
        'softmax_cross_entropy',
        cross_entropy,
        equals=(('one-hot targets', lambda z, y: soft(z, onehot(y))),),
    ),
    case(
        'softmax_cross_entropy:smoothed',
        bind(cross_entropy, label_smoothing=0.2),
        equals=(('mixed targets', lambda z, y: soft(z, 0.8 * onehot(y) + 0.2 / CLASSES)),),
    ),
    case(
        'soft_target_cross_entropy',
        soft,
        labels=SOFT_TARGETS,
        equals=(
            (
                'its expectation over labels',
                lambda z, q: sum(q[:, k] * cross_entropy(z, jnp.full(len(z), k)) for k in range(4)),
            ),
        ),
    ),
    case(
        'logit_adjusted',
        adjusted,
        equals=(
            ('an added constant', bind(classification.logit_adjusted, log_prior=LOG_PRIOR + 3)),
            (
                'post-hoc the other way round',
                lambda z, y: cross_entropy(
                    classification.post_hoc_adjusted(z, log_prior=LOG_PRIOR, tau=-1.0), y
                ),
            ),
        ),
    ),
    case('logit_adjusted:tau_0', bind(adjusted, tau=0.0), equals=(('CE', cross_entropy),)),
    case(
        'logit_adjusted:uniform',
        bind(classification.logit_adjusted, log_prior=samplers.log_prior([5] * CLASSES)),
        equals=(('CE', cross_entropy),),
    ),
    case('generalized_cross_entropy', gce),
    case('generalized_cross_entropy:q_0', bind(gce, q=0.0), equals=(('CE', cross_entropy),)),
    case(
        'generalized_cross_entropy:q_1',
        bind(gce, q=1.0),
        equals=(('mean absolute error', lambda z, y: 1 - jnp.exp(-cross_entropy(z, y))),),
    ),
    case(
        'softmax_focal',
        softmax_focal,
        equals=(
            (
                'its formula',
                lambda z, y: (1 - jnp.exp(-cross_entropy(z, y))) ** 2 * cross_entropy(z, y),
            ),
            ('unit weights', bind(softmax_focal, class_weights=np.ones(CLASSES))),
        ),
    ),
    case('softmax_focal:gamma_0', bind(softmax_focal, gamma=0.0), equals=(('CE', cross_entropy),)),
    case('softmax_focal:root', bind(softmax_focal, gamma=0.5)),
    case(
        'softmax_focal:weighted',
        bind(softmax_focal, gamma=1.0, class_weights=WEIGHTS),
    ),
    case(
        'softmax_focal:detached',
        bind(softmax_focal, gamma=1.0, detach_factor=True),
        smooth=False,
        equals=(('the value with gradient', bind(softmax_focal, gamma=1.0)),),
    ),
    case(
        'ldam',
        bind(margin.ldam, margins=MARGINS, scale=5.0),
        COSINES,
        equals=(
            (
                'its formula',
                lambda c, y: cross_entropy(5 * (c - onehot(y) * jnp.float32(MARGINS)[None, :]), y),
            ),
        ),
    ),
    case(
        'ldam:no_margin',
        bind(margin.ldam, margins=np.zeros(CLASSES), scale=1.0),
        equals=(('CE', cross_entropy),),
    ),
    case(
        'gaussian_clouded',
        bind(clouded, cloud_size=CLOUDS, scale=5.0, margin=0.1),
        COSINES,
        NOISE,
        equals=(
            (
                'the same noise turned round',
                lambda c, e, y: clouded(c, -e, y, cloud_size=CLOUDS, scale=5.0, margin=0.1),
            ),
        ),
    ),
    case(
        'gaussian_clouded:no_cloud',
        bind(clouded, cloud_size=np.zeros(CLASSES), scale=5.0, margin=0.1),
        COSINES,
        NOISE,
        equals=(
            (
                'LDAM with equal margins',
                lambda c, e, y: margin.ldam(c, y, margins=np.full(CLASSES, 0.1), scale=5.0),
            ),
        ),
    ),
    case(
        'gaussian_clouded:stage_2',
        bind(clouded, cloud_size=CLOUDS, scale=5.0, margin=0.1, gamma=1.0),
        COSINES,
        NOISE,
        smooth=False,
    ),
    case(
        'gaussian_clouded_angular',
        bind(angular, cloud_size=CLOUDS, scale=5.0),
        COSINES,
        NOISE,
        logits=False,
    ),
    case(
        'gaussian_clouded_angular:easy_margin',
        bind(angular, cloud_size=CLOUDS, scale=5.0, easy_margin=True),
        COSINES,
        NOISE,
        logits=False,
    ),
    case(
        'gaussian_clouded_angular:no_angle',
        bind(angular, cloud_size=np.zeros(CLASSES), scale=5.0, margin=0.0),
        COSINES,
        NOISE,
        logits=False,
        equals=(('CE', lambda c, e, y: cross_entropy(5 * c, y)),),
    ),
    case(
        'seesaw',
        bind(margin.seesaw, counts=np.array(COUNTS)),
        smooth=False,
        equals=(('its formula', seesaw_by_hand),),
    ),
    case(
        'seesaw:mitigation_alone',
        bind(margin.seesaw, counts=np.array(COUNTS), q=0.0),
    ),
    case(
        'seesaw:neither',
        bind(margin.seesaw, counts=np.array(COUNTS), p=0.0, q=0.0),
        equals=(('CE', cross_entropy),),
    ),
    case(
        'seesaw:compensation_alone',
        bind(margin.seesaw, counts=np.full(CLASSES, 7), q=0.5),
        smooth=False,
        equals=(('no mitigation', bind(margin.seesaw, counts=np.array(COUNTS), p=0.0, q=0.5)),),
    ),
]
