"""Updates in input space and of samplers: M2m, BALMS' meta sampler, DANIL.

DANIL's file holds our own reading and is no evidence of fidelity.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from golden_checks.compare import Arrays, Check
from ltjax.losses import classification, reduce, samplers, translation
from ltjax.losses import meta_sampling as balms
from ltjax.losses.input_gradients import (
    distractor_distance,
    distractor_loss,
    distractors,
    response_maps,
)

cross_entropy = classification.softmax_cross_entropy


def linear(params: Any, features: Any) -> Any:
    """Logits of a linear classifier with a row for each class."""
    return features @ params['weight'].T + params['bias'][None, :]


def m2m(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Images after one step and after all, which are accepted, and the host's probabilities."""
    per_channel = (1, -1) + (1,) * (arrays['in_images'].ndim - 2)
    mean, std = (
        jnp.asarray(arrays[f'hp_{name}'], dtype).reshape(per_channel) for name in ('mean', 'std')
    )

    def model(weight, images):
        return ((images - mean) / std).reshape(len(images), -1) @ weight.T

    target_model = functools.partial(model, arrays['in_weight_g'])
    seed_model = functools.partial(model, arrays['in_weight_r'])
    targets = arrays['in_target_labels']

    @jax.jit
    def translate(steps):
        return translation.m2m_translate(
            target_model,
            seed_model,
            arrays['in_images'],
            arrays['in_seed_labels'],
            targets,
            lam=float(arrays['hp_lam']),
            step_size=float(arrays['hp_step_size']),
            steps=steps,
        )

    final = translate(int(arrays['hp_iters']))
    logits = target_model(final)
    accepted = translation.m2m_accepted(logits, targets, confidence=float(arrays['hp_gamma']))
    counts = arrays['hp_counts']
    return {
        'out_images_step1': translate(1),
        'out_images_final': final,
        'out_accept_by_confidence': accepted.astype(jnp.int32),
        'out_target_prob': jnp.exp(-cross_entropy(logits, targets)),
        'out_p_accept': translation.m2m_seed_acceptance(counts, beta=float(arrays['hp_beta'])),
        'out_keep_prob': translation.m2m_keep_probability(counts),
    }


def _power(suffix: str) -> float:
    """The exponent that a key names: 0, 1, 05 or 0p5 (one half), 2."""
    if 'p' in suffix:
        return float(suffix.replace('p', '.'))
    return float(f'0.{suffix[1:]}') if len(suffix) > 1 and suffix[0] == '0' else float(suffix)


def balms_meta(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Initial sampler, draws, inner loss, and the meta loss with its gradient to the sampler.

    The sampler is in the state whose logits the file gives.
    """
    counts, results = arrays['hp_counts'], {}
    starts = {'prob': balms.meta_sampler_probabilities, 'logit': balms.meta_sampler_logits}
    for key in arrays:
        kind, found, suffix = key.removeprefix('out_init_').partition('_pow')
        if key.startswith('out_init_') and found:
            results[key] = starts[kind](counts, power=_power(suffix))
    psi = next(value for key, value in results.items() if key.startswith('out_init_logit'))

    inner_loss = cross_entropy
    if arrays['hp_balanced_softmax']:
        log_prior = samplers.log_prior(counts)
        inner_loss = functools.partial(classification.logit_adjusted, log_prior=log_prior)
    params = {'weight': arrays['in_weight'], 'bias': arrays['in_bias']}
    inputs, labels = arrays['in_train_features'], arrays['in_train_labels']
    uniform = arrays['in_uniform']

    def meta_loss(psi):
        return reduce.mean(
            balms.meta_sampler_loss(
                psi,
                linear,
                params,
                (inputs, labels),
                (arrays['in_meta_features'], arrays['in_meta_labels']),
                uniform,
                learning_rate=float(arrays['hp_inner_lr']),
                inner_loss=inner_loss,
            )
        )

    psi = jnp.asarray(psi, dtype)
    value, gradient = jax.jit(jax.value_and_grad(meta_loss))(psi)
    indices, weights = balms.meta_sample(psi, labels, uniform)
    drawn = inner_loss(linear(params, inputs[indices]), labels[indices])
    return results | {
        'out_selected': indices,
        'out_inner_loss': reduce.mean(weights * drawn),
        'out_meta_loss': value,
        'grad_sampler_logit': gradient,
    }


def danil_reading(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Distractors, response maps, their distance, and the total with gradients to the weights."""
    inputs, labels = arrays['in_inputs'], arrays['in_labels']
    weight, eps = float(arrays['hp_weight']), float(arrays['hp_eps'])
    params = {'w1': arrays['in_w1'], 'w2': arrays['in_w2']}

    def net(params, inputs):
        return jnp.tanh(inputs @ params['w1']) @ params['w2']

    def terms(params):
        model = functools.partial(net, params)
        distractor = distractor_loss(model, inputs, labels, eps=eps)
        return reduce.mean(cross_entropy(model(inputs), labels)), reduce.mean(distractor)

    def total(params):
        ce, distractor = terms(params)
        return ce + weight * distractor

    ce, distractor = terms(params)
    value, gradients = jax.jit(jax.value_and_grad(total))(params)
    model = functools.partial(net, params)
    wrong = distractors(model(inputs), labels)
    return {
        'out_distractor': wrong,
        'out_response_true': response_maps(model, inputs, labels),
        'out_response_distractor': response_maps(model, inputs, wrong),
        'out_distance': distractor_distance(model, inputs, labels),
        'out_distractor_loss': distractor,
        'out_ce': ce,
        'out_total': value,
        'grad_w1': gradients['w1'],
        'grad_w2': gradients['w2'],
    }


CHECKS: dict[str, Check] = {
    'm2m': m2m,
    'balms_meta': balms_meta,
    'danil_reading': danil_reading,
}

COVERS: dict[str, tuple[str, ...]] = {
    'm2m': ('m2m_translate', 'm2m_accepted', 'm2m_seed_acceptance', 'm2m_keep_probability'),
    'balms_meta': (
        'meta_sampler_probabilities',
        'meta_sampler_logits',
        'meta_sample',
        'inner_step',
        'meta_sampler_loss',
    ),
    'danil_reading': (
        'distractors',
        'response_maps',
        'distractor_distance',
        'distractor_loss',
    ),
}
