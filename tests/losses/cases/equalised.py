"""Cases of vector scaling, softmax equalization, label-aware smoothing, LADER and the range loss."""

import functools

import jax.numpy as jnp
import numpy as np

from losses.cases.logits import (
    CLASSES,
    COSINES,
    COUNTS,
    LABELS,
    LOG_PRIOR,
    case,
    cross_entropy,
    onehot,
)
from ltjax.losses import classification, equalisation, label_distribution, ranges

bind = functools.partial
SCALES = equalisation.vector_scales(COUNTS)
FACTORS = equalisation.smoothing_factors(COUNTS, head=0.4, tail=0.1)
IGNORED = np.random.default_rng(0).random((1, CLASSES)) < 0.6
UNIFORM = np.log(np.full(CLASSES, 1 / CLASSES))
CENTRES = np.array([[0, 3, 0], [0, 0, 4], [5, 0, 0], [1, 1, 1]])
FEATURES = np.random.default_rng(3).normal(size=(len(LABELS), 3)) + CENTRES[LABELS]


def equalized(logits, labels, where=None, *, ignored=IGNORED):
    """With the same draws for each image."""
    ignored = jnp.broadcast_to(ignored[0], logits.shape)
    return equalisation.softmax_equalization(logits, labels, ignored=ignored, where=where)


def equalized_by_weights(logits, labels):
    weights = 1 - jnp.asarray(IGNORED, logits.dtype) * (1 - onehot(labels))
    scores = jnp.exp(logits)
    own = (onehot(labels) * scores).sum(axis=1)
    return -jnp.log(own / (weights * scores).sum(axis=1))


def lader_by_hand(logits, labels, *, log_prior=LOG_PRIOR, penalty=0.1, importance='classes'):
    """The formula class by class."""
    prior, total = np.exp(log_prior), 0.0
    for k in range(CLASSES):
        own = logits[:, k][np.asarray(labels) == k]
        first = own.mean() if len(own) else 0.0
        ratio = prior[k] if importance == 'classes' else jnp.asarray(prior)[labels]
        second = jnp.log((jnp.exp(logits[:, k]) / (CLASSES * ratio)).mean())
        total += prior[k] * (second + penalty * second**2 - first)
    return total


lader = bind(label_distribution.lade_regulariser, log_prior=LOG_PRIOR)


def ranged(features, labels, where=None, *, widest=2, margin=30.0):
    parts = ranges.range_loss(
        features, labels, num_classes=CLASSES, widest=widest, margin=margin, where=where
    )
    return 0.5 * parts.intra + 0.25 * parts.inter


def ranged_by_hand(features, labels, widest=2, margin=30.0):
    rows = {k: features[np.asarray(labels) == k] for k in range(CLASSES)}
    intra = 0.0
    for own in rows.values():
        pairs = [(a - b) @ (a - b) for i, a in enumerate(own) for b in own[i + 1 :]]
        chosen = sorted(map(float, pairs))[::-1][:widest]
        intra += len(chosen) / sum(1 / d for d in chosen) if chosen else 0.0
    means = [own.mean(axis=0) for own in rows.values() if len(own)]
    gaps = [float((a - b) @ (a - b)) for i, a in enumerate(means) for b in means[i + 1 :]]
    return 0.5 * intra + 0.25 * max(margin - min(gaps), 0)


CASES = [
    case(
        'vector_scaling',
        bind(equalisation.vector_scaling, scales=SCALES, log_prior=LOG_PRIOR),
        equals=(
            (
                'logit adjustment of scaled logits',
                lambda z, y: classification.logit_adjusted(
                    z * jnp.float32(SCALES)[None, :], y, log_prior=LOG_PRIOR
                ),
            ),
        ),
    ),
    case(
        'vector_scaling:neither',
        bind(equalisation.vector_scaling, scales=np.ones(CLASSES), log_prior=LOG_PRIOR, tau=0.0),
        equals=(('CE', cross_entropy),),
    ),
    case('softmax_equalization', equalized, equals=(('weights in the sum', equalized_by_weights),)),
    case(
        'softmax_equalization:none_ignored',
        bind(equalized, ignored=np.zeros((1, CLASSES), bool)),
        equals=(('CE', cross_entropy),),
    ),
    case(
        'label_aware_smoothing',
        bind(equalisation.label_aware_smoothing, factors=FACTORS),
        equals=(
            (
                'soft targets',
                lambda z, y: classification.soft_target_cross_entropy(
                    z,
                    (1 - jnp.float32(FACTORS)[y][:, None]) * onehot(y)
                    + jnp.float32(FACTORS)[y][:, None] / CLASSES,
                ),
            ),
        ),
    ),
    case(
        'label_aware_smoothing:equal',
        bind(equalisation.label_aware_smoothing, factors=np.full(CLASSES, 0.2)),
        equals=(('smoothing', bind(cross_entropy, label_smoothing=0.2)),),
    ),
    case('lade_regulariser', lader, per_example=False, equals=(('class by class', lader_by_hand),)),
    case(
        'lade_regulariser:examples',
        bind(lader, importance='examples', penalty=0.3),
        per_example=False,
        equals=(('by hand', bind(lader_by_hand, importance='examples', penalty=0.3)),),
    ),
    case(
        'lade_regulariser:uniform',
        bind(lader, log_prior=UNIFORM),
        per_example=False,
        equals=(('of the images', bind(lader, log_prior=UNIFORM, importance='examples')),),
    ),
    case(
        'range_loss',
        ranged,
        FEATURES,
        per_example=False,
        logits=False,
        equals=(('pair by pair', ranged_by_hand),),
    ),
    case(
        'range_loss:one_pair',
        bind(ranged, widest=1, margin=0.0),
        COSINES,
        per_example=False,
        logits=False,
        equals=(('pair by pair', bind(ranged_by_hand, widest=1, margin=0.0)),),
    ),
]
