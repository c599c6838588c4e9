"""Cases of the losses with two labels and of OLTR's centroid loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from losses.conformance import Case
from ltjax.losses import classification, memory, mixing

BATCH, CLASSES, WIDTH = 8, 4, 3
_rng = np.random.default_rng(7)
LOGITS = 2 * _rng.normal(size=(BATCH, CLASSES))
LABELS = np.array([0, 3, 1, 0, 2, 2, 0, 1], np.int32)
LAM = _rng.uniform(size=BATCH)
FEATURES = _rng.normal(size=(BATCH, WIDTH))
CENTROIDS = _rng.normal(size=(CLASSES, WIDTH)).astype(np.float32)

cross_entropy = classification.softmax_cross_entropy


def others(labels):
    """A partner's label for each example."""
    return (labels + 1) % CLASSES


def interpolated(logits, lam, labels, where=None):
    return mixing.interpolated_cross_entropy(
        logits, labels, other_labels=others(labels), lam=lam, where=where
    )


def interpolated_the_other_way_round(logits, lam, labels):
    return mixing.interpolated_cross_entropy(
        logits, others(labels), other_labels=labels, lam=1 - lam
    )


def soft_targets(logits, lam, labels):
    own, other = (jax.nn.one_hot(y, CLASSES) for y in (labels, others(labels)))
    return classification.soft_target_cross_entropy(logits, mixing.interpolate(own, other, lam))


def with_lam(lam):
    def loss(logits, labels, where=None):
        return interpolated(logits, lam, labels, where)

    return loss


def half_squared_distances(features, labels):
    return jnp.square(features - jnp.asarray(CENTROIDS, features.dtype)[labels]).sum(axis=1) / 2


def repulsion_and_attraction(features, labels):
    away = jnp.asarray(CENTROIDS)[None, :, :] - features[:, None, :]
    squared = jnp.square(away).sum(axis=2)
    own = jnp.take_along_axis(squared, labels[:, None], axis=1)[:, 0]
    return own / 2 + 0.01 * (100 - (squared.sum(axis=1) - own).mean() / CLASSES)


CASES = [
    Case(
        name='interpolated_cross_entropy',
        loss=interpolated,
        floats=(LOGITS, LAM),
        labels=LABELS,
        num_classes=CLASSES,
        equals=(
            ('soft targets', soft_targets),
            ('the same the other way round', interpolated_the_other_way_round),
        ),
    ),
    Case(
        name='interpolated_cross_entropy:lam_1',
        loss=with_lam(1.0),
        floats=(LOGITS,),
        labels=LABELS,
        num_classes=CLASSES,
        equals=(('cross-entropy', cross_entropy),),
    ),
    Case(
        name='interpolated_cross_entropy:lam_0',
        loss=with_lam(0.0),
        floats=(LOGITS,),
        labels=LABELS,
        num_classes=CLASSES,
        equals=(
            ('cross-entropy of the partner', lambda z, labels: cross_entropy(z, others(labels))),
        ),
    ),
    Case(
        name='centroid_loss',
        loss=functools.partial(memory.centroid_loss, centroids=CENTROIDS, margin=100.0),
        floats=(FEATURES,),
        labels=LABELS,
        num_classes=CLASSES,
        per_example=False,
        logits=False,
        equals=(('attraction and repulsion by hand', repulsion_and_attraction),),
    ),
    Case(
        name='centroid_loss:margin_0',
        loss=functools.partial(memory.centroid_loss, centroids=CENTROIDS, margin=0.0),
        floats=(FEATURES,),
        labels=LABELS,
        num_classes=CLASSES,
        per_example=False,
        logits=False,
        equals=(('half squared distances', half_squared_distances),),
    ),
]

NOT_LOSSES = {
    'nearest_means': 'statistics: test_heads.py',
    'remix_weight': 'a weight: test_mixing.py',
    'update_direction': 'statistics: test_causal.py',
}
