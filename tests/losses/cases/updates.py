"""Cases of the losses that perturb weights or features, or differentiate by the input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from losses.conformance import Case
from ltjax.losses import class_sharpness, classification
from ltjax.losses.input_gradients import (
    distractor_distance,
    distractor_loss,
    distractors,
    response_maps,
)

BATCH, WIDTH, CLASSES = 8, 5, 4
COUNTS = [70, 20, 9, 1]
LABELS = np.array([0, 1, 2, 3, 0, 2, 1, 0], np.int32)
_RNG = np.random.default_rng(0)
FEATURES = _RNG.normal(size=(BATCH, WIDTH))
KERNEL, BIAS, HIDDEN = (
    np.float32(_RNG.normal(size=shape)) for shape in ((WIDTH, CLASSES), (CLASSES,), (WIDTH, 6))
)
OUTPUT = np.float32(_RNG.normal(size=(6, CLASSES)))
RADII = class_sharpness.cc_sam_radii(COUNTS, noise_ratio=0.1)
CLASS_WEIGHTS = class_sharpness.cc_sam_class_weights(COUNTS)

bind = functools.partial


def head(params, features):
    kernel, bias = params
    return features @ kernel.astype(features.dtype) + bias.astype(features.dtype)[None, :]


def linear(features):
    return head((jnp.asarray(KERNEL), jnp.asarray(BIAS)), features)


def net(inputs):
    hidden = jnp.tanh(inputs @ jnp.asarray(HIDDEN, inputs.dtype))
    return hidden @ jnp.asarray(OUTPUT, inputs.dtype)


def cross_entropy(features, labels):
    return classification.softmax_cross_entropy(linear(features), labels)


def weighted_cross_entropy(features, labels):
    return jnp.asarray(CLASS_WEIGHTS, jnp.float32)[labels] * cross_entropy(features, labels)


def response_distance(inputs, labels):
    """By two response maps, where one backward pass suffices."""
    wrong = distractors(net(inputs), labels)
    true_map, wrong_map = (response_maps(net, inputs, y) for y in (labels, wrong))
    return jnp.linalg.norm(true_map - wrong_map, axis=1)


cc_sam_head = bind(class_sharpness.cc_sam_head, head, (KERNEL, BIAS))
cc_sam_features = bind(
    class_sharpness.cc_sam_features, linear, class_weights=CLASS_WEIGHTS, alpha=0.4
)


def perturbed_by_hand(features, labels):
    """Stage 1, example by example, from the perturbations of the classes."""
    params = (jnp.asarray(KERNEL), jnp.asarray(BIAS))
    noise = class_sharpness.cc_sam_perturbations(
        lambda params: classification.softmax_cross_entropy(head(params, features), labels),
        params,
        labels,
        radii=RADII,
    )

    def value(feature, label):
        moved = jax.tree.map(lambda w, e: w + e[label], params, noise)
        logits = jnp.stack([head(params, feature[None])[0], head(moved, feature[None])[0]])
        return -jax.nn.log_softmax(logits)[:, label] @ jnp.array([0.7, 0.3])

    return jax.vmap(value)(features, labels)


def case(name, loss, **fields):
    return Case(name, loss, (FEATURES,), LABELS, CLASSES, logits=False, **fields)


CASES = [
    case(
        'cc_sam_head',
        bind(cc_sam_head, radii=RADII),
        per_example=False,
        smooth=False,
        equals=(('one head for each example', perturbed_by_hand),),
    ),
    case(
        'cc_sam_head:no_radius',
        bind(cc_sam_head, radii=np.zeros(CLASSES)),
        per_example=False,
        equals=(('cross-entropy', cross_entropy),),
    ),
    case(
        'cc_sam_head:plain',
        bind(cc_sam_head, radii=RADII, flat_ratio=0.0),
        per_example=False,
        equals=(('cross-entropy', cross_entropy),),
    ),
    case('cc_sam_features', cc_sam_features, per_example=False, smooth=False),
    case(
        'cc_sam_features:unshifted',
        bind(cc_sam_features, scale=0.0, alpha=1.0),
        equals=(('weighted cross-entropy', weighted_cross_entropy),),
    ),
    case(
        'cc_sam_features:first_epoch',
        bind(cc_sam_features, alpha=0.0),
        equals=(('cross-entropy', cross_entropy),),
    ),
    case(
        'distractor_distance',
        bind(distractor_distance, net),
        equals=(('distance of two response maps', response_distance),),
    ),
    case(
        'distractor_loss',
        bind(distractor_loss, net, eps=0.1),
        equals=(('reciprocal distance', lambda x, y: 1 / (0.1 + response_distance(x, y))),),
    ),
]

NOT_LOSSES = {
    'cc_sam_feature_shift': 'a perturbation: test_sharpness.py',
    'cc_sam_perturbations': 'a perturbation: test_sharpness.py',
    'cc_sam_perturbed_logits': 'logits: test_sharpness.py',
    'distractors': 'classes: test_input_gradients.py',
    'response_maps': 'a response map: test_input_gradients.py',
    'm2m_seeds': 'a sampler: test_translation.py',
    'meta_sample': 'a sampler: test_meta_sampling.py',
}
