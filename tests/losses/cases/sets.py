"""Cases of the contrastive losses."""

import functools

import jax.numpy as jnp
import numpy as np

from losses.conformance import Case
from ltjax.losses import classification, contrastive, parametric

BATCH, CLASSES, WIDTH, KEYS = 8, 3, 5, 4
ANY = int(np.iinfo(np.int32).max)
_RNG = np.random.default_rng(0)


def _unit(rows, width=WIDTH):
    vectors = _RNG.normal(size=(rows, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


FEATURES, LOGITS = _unit(BATCH), _RNG.normal(size=(BATCH, CLASSES))
LABELS = np.array([0, 1, 2, 0, 0, 1, 2, 0], np.int32)
IMAGES = np.tile(np.arange(BATCH // 2, dtype=np.int32), 2)
LOG_PRIOR = np.log([0.7, 0.2, 0.1])
WITH_KEYS = {'keys': np.float32(_unit(KEYS)), 'key_labels': np.array([0, 1, 1, 2], np.int32)}
WITHOUT_KEYS = WITH_KEYS | {'key_where': np.zeros(KEYS, bool)}

bind = functools.partial
supervised, simclr = contrastive.supervised_contrastive, contrastive.nt_xent
paco, aduc = parametric.parametric_contrastive, parametric.adaptive_unified_contrastive
cross_entropy = classification.softmax_cross_entropy


def case(name, loss, floats, labels=LABELS, num_classes=CLASSES, **fields):
    return Case(name, loss, floats, labels, num_classes, per_example=False, **fields)


def _far_classes(features, labels):
    """PaCo with classes that are neither positives nor near."""
    logits = jnp.full([BATCH, CLASSES], -1e4)
    return paco(logits, features, labels, alpha=1.0, beta=0.0, temperature=0.1)


def _other_view(features, labels):
    """Cross-entropy over the other rows, with the row of the other view as the class."""
    similarities = features @ features.T / 0.5 - 1e9 * jnp.eye(BATCH)
    return cross_entropy(similarities, (jnp.arange(BATCH) + BATCH // 2) % BATCH)


def _summed(loss):
    """Each value times the number of its positives."""
    positives = (LABELS[:, None] == LABELS[None, :]).sum(axis=1) - 1
    return lambda *arguments: loss(*arguments) * positives


CASES = [
    case(
        'supervised_contrastive',
        bind(supervised, base_temperature=None),
        (FEATURES,),
        num_classes=ANY,
        logits=False,
        equals=(('PaCo with far classes', _far_classes),),
    ),
    case(
        'supervised_contrastive:sum',
        bind(supervised, positives='sum'),
        (FEATURES,),
        num_classes=ANY,
        logits=False,
        equals=(('the mean times |P|', _summed(supervised)),),
    ),
    case(
        'nt_xent',
        simclr,
        (FEATURES,),
        labels=IMAGES,
        num_classes=ANY,
        logits=False,
        equals=(('cross-entropy over rows', _other_view),),
    ),
    case(
        'classifier_contrastive',
        bind(contrastive.classifier_contrastive, temperature=0.5),
        (LOGITS,),
        equals=(
            ('cross-entropy', _summed(lambda z, y: cross_entropy(z / 0.5, y))),
            (
                'the mean times |P|',
                _summed(
                    bind(contrastive.classifier_contrastive, temperature=0.5, positives='mean')
                ),
            ),
        ),
    ),
    case(
        'parametric_contrastive',
        bind(paco, log_prior=LOG_PRIOR, gamma=0.5, class_temperature=2.0, **WITH_KEYS),
        (LOGITS, FEATURES),
    ),
    case(
        'parametric_contrastive:classes_alone',
        bind(paco, log_prior=LOG_PRIOR, alpha=0.0, gamma=0.0),
        (LOGITS, FEATURES),
        equals=(
            (
                'logit adjustment',
                lambda z, f, y: classification.logit_adjusted(z, y, log_prior=LOG_PRIOR),
            ),
        ),
    ),
    case(
        'parametric_contrastive:unfilled_queue',
        bind(paco, epsilon=1e-12, **WITHOUT_KEYS),
        (LOGITS, FEATURES),
        equals=(('no keys', bind(paco, epsilon=1e-12)),),
    ),
    case(
        'adaptive_unified_contrastive',
        bind(aduc, log_prior=LOG_PRIOR, alpha=0.5),
        (LOGITS, FEATURES),
        equals=(
            (
                'PaCo',
                lambda *a: paco(*a, log_prior=LOG_PRIOR, alpha=0.5, temperature=0.1) * (0.1 / 0.07),
            ),
        ),
    ),
    case(
        'adaptive_unified_contrastive:printed',
        bind(aduc, alpha=0.5, class_temperature=0.1, base_temperature=None, positives='sum'),
        (LOGITS, FEATURES),
    ),
]

NOT_LOSSES = {
    'push': 'a state update: test_queues.py',
}
