"""Cases of the centroid, prototype and distillation losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from losses.conformance import Case
from ltjax.losses import centroids, classification, distillation, proto_instances, queues

BATCH, CLASSES, WIDTH, SLOTS = 6, 3, 4, 7
_RNG = np.random.default_rng(0)


def _unit(rows):
    vectors = _RNG.normal(size=(rows, WIDTH))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


LOGITS, EMBEDDINGS = _RNG.normal(size=(BATCH, CLASSES)), _unit(BATCH)
# Bound arguments are float32, which needs no conversion whatever the dtype of a trace.
CENTROIDS, PROTOTYPES, STORED = (_unit(n).astype(np.float32) for n in (CLASSES, CLASSES, SLOTS))
LABELS = np.array([0, 1, 2, 0, 0, 1], np.int32)
TEACHER, TARGETS = np.float32([1, -2, 0.5]), _RNG.normal(size=(BATCH, CLASSES))

bind = functools.partial
cross_entropy = classification.softmax_cross_entropy
contrastive = bind(centroids.centroid_contrastive, centroids=CENTROIDS, temperature=0.5)


def _queue(filled=SLOTS):
    slots = np.arange(SLOTS)
    return queues.Queue(
        jnp.asarray(STORED), jnp.asarray(slots % 2), jnp.asarray(slots < filled), jnp.array(0)
    )


def _proto(logits, embeddings, labels, *, filled=SLOTS, **options):
    return proto_instances.proto_loss(logits, embeddings, labels, queue=_queue(filled), **options)


def _with_instances(logits, embeddings, labels, *, where=None):
    instances = proto_instances.adversarial_instances(
        embeddings,
        labels,
        queue=_queue(),
        prototypes=PROTOTYPES,
        num_negatives=2,
        negative_epsilon=0.3,
        positive_epsilon=0.2,
        where=where,
    )
    return _proto(logits, embeddings, labels, instances=instances, where=where)


def _interpolative(embeddings, labels, *, lam=0.3, where=None):
    return centroids.interpolative_centroid_contrastive(
        embeddings,
        labels,
        other_labels=(labels + 1) % CLASSES,
        lam=lam,
        centroids=CENTROIDS,
        temperature=0.5,
        where=where,
    )


def _distilled(logits, labels, *, where=None, **options):
    teacher = jnp.tile(jnp.asarray(TEACHER), (len(logits), 1))
    return distillation.distilled_cross_entropy(
        logits, labels, teacher_logits=teacher, where=where, **options
    )


def _divergence(logits, labels):
    teacher = jnp.tile(jnp.asarray(TEACHER), (len(logits), 1))
    return 9 * distillation.kl_divergence(teacher, logits, temperature=3.0)


def _kl(logits, target_logits, *, where=None, temperature=2.0):
    return distillation.kl_divergence(target_logits, logits, temperature=temperature, where=where)


def _soft_cross_entropy(logits, target_logits):
    """KL(t || p) = CE(t, p) - CE(t, t)."""
    targets, predictions = jax.nn.softmax(target_logits / 2), jax.nn.softmax(logits / 2)
    return (targets * (jnp.log(targets) - jnp.log(predictions))).sum(axis=1)


def case(name, loss, floats, labels=LABELS, **fields):
    return Case(name, loss, floats, labels, CLASSES, **fields)


CASES = [
    case(
        'centroid_contrastive',
        contrastive,
        (EMBEDDINGS,),
        equals=(('cross-entropy', lambda z, y: cross_entropy(z @ CENTROIDS.T / 0.5, y)),),
    ),
    case('interpolative_centroid_contrastive', _interpolative, (EMBEDDINGS,)),
    case(
        'interpolative_centroid_contrastive:lam_1',
        bind(_interpolative, lam=1.0),
        (EMBEDDINGS,),
        equals=(('not mixed', contrastive),),
    ),
    case('proto_loss', _with_instances, (LOGITS, EMBEDDINGS)),
    case(
        'proto_loss:unfilled_queue',
        bind(_proto, filled=0),
        (LOGITS, EMBEDDINGS),
        equals=(('cross-entropy', lambda z, g, y: cross_entropy(z, y)),),
    ),
    case('proto_loss:plain', _proto, (LOGITS, EMBEDDINGS)),
    case('distilled_cross_entropy', _distilled, (LOGITS,)),
    case(
        'distilled_cross_entropy:weight_0',
        bind(_distilled, weight=0.0),
        (LOGITS,),
        equals=(('cross-entropy', cross_entropy),),
    ),
    case(
        'distilled_cross_entropy:weight_1',
        bind(_distilled, weight=1.0, temperature=3.0),
        (LOGITS,),
        equals=(('divergence', _divergence),),
    ),
    case(
        'kl_divergence',
        _kl,
        (LOGITS,),
        labels=TARGETS,
        equals=(('difference of cross-entropies', _soft_cross_entropy),),
    ),
]

NOT_LOSSES = {
    'adversarial_instances': 'constants made from a queue: test_prototypes.py',
    'calibration_factors': 'statistics: test_prototypes.py',
    'centroid_logits': 'logits of centroid_contrastive: test_centroids.py',
    'hard_negatives': 'slots of a queue: test_prototypes.py',
    'proto_log_sums': 'the two terms of proto_loss',
    'update_centroids': 'a state update: test_centroids.py',
}
