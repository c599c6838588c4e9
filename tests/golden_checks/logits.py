"""Losses on logits and the arrays that they are given, made from class counts."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks import logits_asymmetric, logits_margin
from golden_checks.compare import Arrays, Check, Tolerances, values_and_gradients
from ltjax.losses import (
    class_weights,
    classification,
    focal,
    reduce,
    samplers,
    selection,
    sigmoid,
)

effective_weights = class_weights.effective_number_weights


def _suffixes(arrays: Arrays, pattern: str) -> list[tuple[str, float]]:
    """Of the keys that match, the part in the group 'g' and its number ('0p5' is 0.5)."""
    found = {m['g'] for m in (re.fullmatch(pattern, key) for key in arrays) if m}
    return [(text, float(text.replace('p', '.'))) for text in sorted(found)]


def cross_entropy(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Five reductions of the cross-entropy."""
    labels, soft = arrays['in_labels'], arrays['in_soft_targets']
    weights = jnp.asarray(arrays['hp_class_weights'], dtype)[labels]
    smoothing = float(arrays['hp_label_smoothing'])

    def per_sample(at):
        return classification.softmax_cross_entropy(at['logits'], labels)

    def smooth(at):
        return classification.softmax_cross_entropy(at['logits'], labels, label_smoothing=smoothing)

    outputs = {
        'loss': lambda at: reduce.mean(per_sample(at)),
        'loss_weighted': lambda at: reduce.weighted_mean(per_sample(at), weights),
        'loss_weighted_batchmean': lambda at: reduce.weighted_batch_mean(per_sample(at), weights),
        'loss_smooth': lambda at: reduce.mean(smooth(at)),
        'loss_soft': lambda at: reduce.mean(
            classification.soft_target_cross_entropy(at['logits'], soft)
        ),
    }
    at = {'logits': arrays['in_logits']}
    return values_and_gradients(outputs, at) | {'out_per_sample': per_sample(at)}


def weights_of_classes(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Effective numbers for each beta, and the other weights."""
    counts, betas = arrays['hp_counts'], arrays['hp_betas'].tolist()
    numbers = np.array([class_weights.effective_number(counts, beta=beta) for beta in betas])
    inverse = class_weights.inverse_frequency_weights(counts)
    return {
        'out_effective_number': numbers,
        'out_weights_raw': 1 / numbers,
        'out_weights_sumK': np.array([effective_weights(counts, beta=beta) for beta in betas]),
        'out_inverse_sumK': inverse,
        'out_inverse_sum1': inverse / inverse.sum(),
        'out_neglog': class_weights.negative_log_weights(counts),
    }


def softmax_focal(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Plain, weighted inside and outside, and with a constant factor, for each gamma."""
    labels, weights = arrays['in_labels'], arrays['hp_class_weights']
    own_weights = jnp.asarray(weights, dtype)[labels]
    outputs, samples, at = {}, {}, {'logits': arrays['in_logits']}
    for name, gamma in _suffixes(arrays, r'out_(loss|per_sample)_g(?P<g>[0-9p]+)(_\w+)?'):

        def per_sample(at, gamma=gamma, **options):
            return focal.softmax_focal(at['logits'], labels, gamma=gamma, **options)

        outputs[f'loss_g{name}'] = lambda at, f=per_sample: reduce.mean(f(at))
        outputs[f'loss_g{name}_weighted'] = lambda at, f=per_sample: reduce.mean(
            f(at, class_weights=jnp.asarray(weights, dtype))
        )
        outputs[f'loss_g{name}_detached'] = lambda at, f=per_sample: reduce.mean(
            f(at, detach_factor=True)
        )
        outputs[f'loss_g{name}_alpha'] = lambda at, f=per_sample: reduce.weighted_batch_mean(
            f(at), own_weights
        )
        samples[f'out_per_sample_g{name}'] = per_sample(at)
    return values_and_gradients(outputs, at) | samples


def class_balanced(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Class-balanced sigmoid focal loss, sigmoid and softmax cross-entropies."""
    labels = arrays['in_labels']
    weights = effective_weights(arrays['hp_counts'], beta=float(arrays['hp_beta']))
    own_weights = jnp.asarray(weights, dtype)[labels]
    num_classes = len(weights)

    def weighted(loss, **options):
        return lambda at: reduce.weighted_batch_mean(
            loss(at['logits'], labels, **options), own_weights
        )

    bce = weighted(sigmoid.softmax_binary_cross_entropy)
    outputs = {
        'sigmoid': weighted(sigmoid.sigmoid_cross_entropy),
        'softmax_ce': weighted(classification.softmax_cross_entropy),
        'softmax_bce': lambda at: bce(at) / num_classes,
    }
    for name, gamma in _suffixes(arrays, r'out_focal_g(?P<g>[0-9p]+)(_\w+)?'):
        outputs[f'focal_g{name}'] = weighted(sigmoid.sigmoid_focal, gamma=gamma)
        outputs[f'focal_g{name}_unweighted'] = lambda at, gamma=gamma: reduce.mean(
            sigmoid.sigmoid_focal(at['logits'], labels, gamma=gamma)
        )
    return values_and_gradients(outputs, {'logits': arrays['in_logits']}) | {
        'out_class_weights': weights,
        'out_sigmoid_bias_init': np.array(
            sigmoid.sigmoid_bias_init(float(arrays['hp_bias_init_pi']))
        ),
    }


def _adjusted(logits: Any, arrays: Arrays, log_prior: Any) -> Any:
    """Per-example logit-adjusted loss."""
    log_prior = jnp.asarray(log_prior, logits.dtype)
    return classification.logit_adjusted(logits, arrays['in_labels'], log_prior=log_prior)


def balanced_softmax(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Values of each example, their mean and its gradient."""

    def loss(logits):
        log_prior = jnp.asarray(samplers.log_prior(arrays['hp_counts']), logits.dtype)
        values = classification.balanced_softmax(logits, arrays['in_labels'], log_prior=log_prior)
        return reduce.mean(values), values

    (value, values), gradient = jax.value_and_grad(loss, has_aux=True)(arrays['in_logits'])
    return {'out_loss': value, 'out_per_sample': values, 'grad_logits': gradient}


def logit_adjustment(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """In training and post hoc, for each tau."""
    logits, eps = arrays['in_logits'], float(arrays['hp_eps'])
    results: dict[str, list[Any]] = {}
    for tau in arrays['hp_taus'].tolist():
        adjustment = classification.logit_adjustment(arrays['hp_counts'], tau=tau, epsilon=eps)

        def mean_loss(z, adjustment=adjustment):
            return reduce.mean(_adjusted(z, arrays, adjustment))

        loss, gradient = jax.value_and_grad(mean_loss)(logits)
        post_hoc = classification.post_hoc_adjusted(
            logits, log_prior=jnp.asarray(adjustment, dtype)
        )
        for key, result in {
            'out_adjustment': adjustment,
            'out_loss': loss,
            'grad_logits': gradient,
            'out_posthoc_logits': post_hoc,
            'out_posthoc_pred': post_hoc.argmax(axis=1),
        }.items():
            results.setdefault(key, []).append(result)
    return {key: np.array(values) for key, values in results.items()}


def hard_examples(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The selected examples and their mean loss, for each ratio."""

    def loss(logits, keep_ratio):
        values = classification.softmax_cross_entropy(logits, arrays['in_labels'])
        selected = selection.hardest_examples(values, keep_ratio=keep_ratio)
        return reduce.mean(values, selected), (values, selected)

    results = [
        jax.value_and_grad(loss, has_aux=True)(arrays['in_logits'], ratio)
        for ratio in arrays['hp_keep_ratio'].tolist()
    ]
    return {
        'out_per_sample': results[0][0][1][0],
        'out_selected': np.array([selected for (_, (_, selected)), _ in results], np.int32),
        'out_loss': np.array([value for (value, _), _ in results]),
        'grad_logits': np.array([gradient for _, gradient in results]),
    }


def numerics(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Extreme logits, example by example."""
    labels = arrays['in_labels']
    per_sample = {
        'ce': lambda z: classification.softmax_cross_entropy(z, labels),
        'balanced_softmax': lambda z: _adjusted(z, arrays, samplers.log_prior(arrays['hp_counts'])),
        'asl_single': lambda z: logits_asymmetric.single_label(z, labels),
    }
    for family, loss in (('focal', focal.softmax_focal), ('sigmoid_focal', sigmoid.sigmoid_focal)):
        for name, gamma in _suffixes(arrays, rf'out_{family}_g(?P<g>[0-9p]+)'):
            per_sample[f'{family}_g{name}'] = lambda z, loss=loss, gamma=gamma: loss(
                z, labels, gamma=gamma
            )
    results = {}
    for name, loss in per_sample.items():
        values, pullback = jax.vjp(loss, arrays['in_logits'])
        results[f'out_{name}'] = values
        (results[f'grad_{name}_logits'],) = pullback(jnp.ones_like(values))
    return results


CHECKS: dict[str, Check] = (
    {
        'ce': cross_entropy,
        'class_weights': weights_of_classes,
        'focal_softmax': softmax_focal,
        'cb_loss': class_balanced,
        'balanced_softmax': balanced_softmax,
        'logit_adjustment': logit_adjustment,
        'ohem': hard_examples,
        'numerics': numerics,
    }
    | logits_margin.CHECKS
    | logits_asymmetric.CHECKS
)

TOLERANCES: dict[str, Tolerances] = {
    'class_weights': {'*': (1e-7, 1e-7)},  # made on the host in float64, whatever the dtype
    'numerics': {'*': (1e-9, 1e-4)},
}

COVERS: dict[str, tuple[str, ...]] = (
    {
        'ce': (
            'softmax_cross_entropy',
            'soft_target_cross_entropy',
            'mean',
            'weighted_mean',
            'weighted_batch_mean',
        ),
        'class_weights': (
            'effective_number',
            'effective_number_weights',
            'inverse_frequency_weights',
            'negative_log_weights',
        ),
        'focal_softmax': ('softmax_focal',),
        'cb_loss': (
            'sigmoid_focal',
            'sigmoid_cross_entropy',
            'softmax_binary_cross_entropy',
            'sigmoid_bias_init',
            'effective_number_weights',
        ),
        'balanced_softmax': ('balanced_softmax',),
        'logit_adjustment': ('logit_adjusted', 'logit_adjustment', 'post_hoc_adjusted'),
        'ohem': ('hardest_examples',),
        'numerics': (
            'softmax_cross_entropy',
            'logit_adjusted',
            'softmax_focal',
            'sigmoid_focal',
            'asymmetric_single_label',
        ),
    }
    | logits_margin.COVERS
    | logits_asymmetric.COVERS
)
