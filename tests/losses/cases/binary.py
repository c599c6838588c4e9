"""Cases of the losses that make a yes-or-no decision for each class."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from losses.cases.logits import CLASSES, LOGITS, case, cross_entropy, onehot
from ltjax.losses import asymmetric, focal, sigmoid

bind = functools.partial
TARGETS = np.random.default_rng(2).integers(0, 2, LOGITS.shape).astype(np.float64)
ALPA = asymmetric.ALPA_VERSIONS

bce = sigmoid.sigmoid_cross_entropy
asl = asymmetric.asymmetric_multi_label
single = asymmetric.asymmetric_single_label


def of_onehot(loss):
    return lambda z, y: loss(z, onehot(y))


def alpa_of_probabilities(logits, targets):
    """Version 1 without a clip, whose approximants are lines."""
    p = jax.nn.sigmoid(logits)
    return (targets * 1.5 * (1 - p) + (1 - targets) * p**9).sum(axis=1)


CASES = [
    case(
        'sigmoid_focal',
        sigmoid.sigmoid_focal,
        equals=(
            ('one-hot targets', of_onehot(sigmoid.sigmoid_focal)),
            (
                'symmetric ASL',
                bind(asl, gamma_pos=2.0, gamma_neg=2.0, clip=0.0),
            ),
        ),
    ),
    case(
        'sigmoid_focal:targets',
        bind(sigmoid.sigmoid_focal, gamma=0.5),
        labels=TARGETS,
    ),
    case('sigmoid_focal:gamma_0', bind(sigmoid.sigmoid_focal, gamma=0.0), equals=(('BCE', bce),)),
    case(
        'sigmoid_cross_entropy',
        bce,
        equals=(
            ('one-hot targets', of_onehot(bce)),
            (
                'two-class softmaxes',
                lambda z, y: sum(
                    cross_entropy(
                        jnp.stack([jnp.zeros_like(z[:, k]), z[:, k]], axis=1),
                        (y == k).astype(jnp.int32),
                    )
                    for k in range(CLASSES)
                ),
            ),
        ),
    ),
    case(
        'softmax_binary_cross_entropy',
        sigmoid.softmax_binary_cross_entropy,
        equals=(
            ('one-hot targets', of_onehot(sigmoid.softmax_binary_cross_entropy)),
            (
                'BCE at the log-odds of p',
                lambda z, y: bce(jnp.log(jax.nn.softmax(z) / (1 - jax.nn.softmax(z))), y),
            ),
        ),
    ),
    case(
        'asymmetric_multi_label',
        asl,
        labels=TARGETS,
        equals=(('the value with a constant factor', bind(asl, detach_factor=True)),),
    ),
    case('asymmetric_multi_label:root', bind(asl, gamma_pos=0.5, gamma_neg=0.5)),
    case(
        'asymmetric_multi_label:detached',
        bind(asl, detach_factor=True),
        labels=TARGETS,
        smooth=False,
    ),
    case(
        'asymmetric_multi_label:no_focus',
        bind(asl, gamma_pos=0.0, gamma_neg=0.0, clip=0.0),
        equals=(('BCE', bce),),
    ),
    case('asymmetric_single_label', bind(single, gamma_pos=1.0)),
    case(
        'asymmetric_single_label:no_focus',
        bind(single, gamma_neg=0.0),
        equals=(('smoothed CE', bind(cross_entropy, label_smoothing=0.1)),),
    ),
    case(
        'asymmetric_single_label:no_smoothing',
        bind(single, gamma_pos=2.0, label_smoothing=0.0),
        equals=(('softmax focal', bind(focal.softmax_focal, gamma=2.0)),),
    ),
    case(
        'alpa',
        asymmetric.alpa,
        equals=(
            ('version 2', bind(asymmetric.alpa, **ALPA['v2'])),
            ('one-hot targets', of_onehot(asymmetric.alpa)),
        ),
    ),
    case('alpa:v3', bind(asymmetric.alpa, **ALPA['v3']), labels=TARGETS),
    case(
        'alpa:v1_no_clip',
        bind(asymmetric.alpa, clip=0.0, **ALPA['v1']),
        labels=TARGETS,
        equals=(('its polynomial', alpa_of_probabilities),),
    ),
    case(
        'alpa:pade',
        bind(asymmetric.alpa, coefficients=asymmetric.PADE_COEFFICIENTS['pade']),
    ),
]
