"""Updates in weight space: weight balancing, SAM, CC-SAM, FCD; with those in input space.

FCD's file holds our own reading and is no evidence of fidelity. The updates of SGD and Adam are
optax's, in the chain that `engine.optim` builds.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from golden_checks import updates_inputs
from golden_checks.compare import Arrays, Check, Tolerances
from golden_checks.updates_inputs import linear
from ltjax.engine import optim
from ltjax.losses import class_sharpness as cc
from ltjax.losses import (
    classification,
    distillation,
    reduce,
    schedules,
    sharpness,
    weight_balancing,
)

cross_entropy = classification.softmax_cross_entropy


def max_norm(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The cap of the first weights for each threshold, and both projections onto it."""
    order = float(arrays['hp_p'])
    results = {'out_cap': [], 'out_projected_init': [], 'out_projected_later': []}
    for threshold in arrays['hp_thresh']:
        init, later = arrays['in_weight_init'], arrays['in_weight_later']
        cap = weight_balancing.max_norm_cap(init, threshold=float(threshold), order=order, axis=1)
        results['out_cap'].append(cap)
        for name, weights in (('init', init), ('later', later)):
            projected = weight_balancing.project_max_norm(weights, cap, order=order, axis=1)
            results[f'out_projected_{name}'].append(projected)
    return {key: np.stack(values) for key, values in results.items()}


def sgd_weight_decay(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The parameters after each update of the optimisers, whose rate changes from step to step."""
    rates = arrays['hp_lr']

    def run(optimizers):
        params, state = arrays['in_params'], optimizers[0].init(arrays['in_params'])
        trajectory = []
        for optimizer, gradients in zip(optimizers, arrays['in_grads'], strict=True):
            updates, state = optimizer.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
            trajectory.append(params)
        return jnp.stack(trajectory)

    def sgd(**options):
        settings = {'name': 'sgd', 'schedule': 'constant', 'momentum': float(arrays['hp_momentum'])}
        configs = [settings | {'learning_rate': float(rate)} | options for rate in rates]
        return run([optim.make(optim.Optimizer(**c), 1, len(rates)) for c in configs])

    decay = float(arrays['hp_weight_decay'])
    names = ('lr', 'b1', 'b2', 'eps', 'weight_decay')
    rate, b1, b2, eps, adam_decay = (float(arrays[f'hp_adam_{name}']) for name in names)
    adam_l2 = optax.chain(optax.add_decayed_weights(adam_decay), optax.adam(rate, b1, b2, eps))
    adamw = optax.adamw(rate, b1, b2, eps, weight_decay=adam_decay)
    return {
        'out_sgd': sgd(weight_decay=decay),
        'out_sgd_nesterov': sgd(weight_decay=decay, nesterov=True),
        'out_sgd_wd0': sgd(),
        'out_adam_l2': run([adam_l2] * len(arrays['in_grads'])),
        'out_adamw': run([adamw] * len(arrays['in_grads'])),
    }


def sam(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Loss, perturbation, perturbed loss, and the gradient of the latter applied at the weights."""
    params = {'weight': arrays['in_weight'], 'bias': arrays['in_bias']}
    radius = {'rho': float(arrays['hp_rho']), 'eps': float(arrays['hp_eps'])}

    def loss(params):
        return reduce.mean(
            cross_entropy(linear(params, arrays['in_features']), arrays['in_labels'])
        )

    plain = jax.grad(loss)(params)
    perturbation = sharpness.sam_perturbation(plain, **radius)
    value, gradient = sharpness.sam_value_and_grad(loss, **radius)(params)
    optimizer = optax.sgd(float(arrays['hp_lr']))
    updates, _ = optimizer.update(gradient, optimizer.init(params))
    results = {
        'out_loss': value,
        'out_loss_perturbed': loss(optax.tree.add(params, perturbation)),
        'out_grad_norm': optax.tree.norm(plain),
    }
    moved = optax.apply_updates(params, updates)
    for name in params:
        results[f'out_eps_{name}'] = perturbation[name]
        results[f'grad_plain_{name}'] = plain[name]
        results[f'grad_sam_{name}'] = gradient[name]
        results[f'out_{name}_after_sgd'] = moved[name]
    return results


def cc_sam(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Stage 1, plain and with mixup, and stage 2 at each epoch."""
    params = {'weight': arrays['in_weight'], 'bias': arrays['in_bias']}
    features, labels, counts = arrays['in_features'], arrays['in_labels'], arrays['hp_counts']
    lam, eps = float(arrays['hp_mixup_lam']), float(arrays['hp_norm_eps'])
    flat_ratio = float(arrays['hp_flat_ratio'])
    radii = cc.cc_sam_radii(counts, noise_ratio=float(arrays['hp_noise_ratio']))

    def mixup_loss(logits, labels):
        other = labels[arrays['in_perm']]
        return lam * cross_entropy(logits, labels) + (1 - lam) * cross_entropy(logits, other)

    results = {}
    for name, plain_loss in (('s1', cross_entropy), ('s1_mixup', mixup_loss)):

        def stage1(params, features, plain_loss=plain_loss, flat_ratio=flat_ratio):
            settings = {'radii': radii, 'flat_ratio': flat_ratio, 'eps': eps}
            return reduce.mean(
                cc.cc_sam_head(linear, params, features, labels, plain_loss=plain_loss, **settings)
            )

        value, (gradient, feature_gradient) = jax.value_and_grad(stage1, (0, 1))(params, features)
        noise = cc.cc_sam_perturbations(
            lambda params, loss=plain_loss: loss(linear(params, features), labels),
            params,
            labels,
            radii=radii,
            eps=eps,
        )
        results[f'out_{name}_loss'] = value
        results[f'out_{name}_loss_plain'] = stage1(params, features, flat_ratio=0.0)
        results[f'out_{name}_loss_flat'] = stage1(params, features, flat_ratio=1.0)
        results[f'grad_{name}_features'] = feature_gradient
        for part in params:
            results[f'grad_{name}_{part}'] = gradient[part]
            results[f'out_{name}_noise_{part}'] = noise[part]

    weights = cc.cc_sam_class_weights(counts, divisor=float(arrays['hp_div']))
    shift = {'class_weights': weights, 'scale': float(arrays['hp_adver_reg'])}
    schedule = schedules.cc_sam_coefficient(
        start=int(arrays['hp_stage']),
        end=int(arrays['hp_max_epoch']),
        limit=float(arrays['hp_up_limit']),
    )
    alphas = jnp.stack([schedule(int(epoch)) for epoch in arrays['hp_stage2_epochs']])

    def stage2(params, alpha):
        head = functools.partial(linear, params)
        return reduce.mean(cc.cc_sam_features(head, features, labels, alpha=alpha, **shift))

    losses, gradients = jax.vmap(jax.value_and_grad(stage2), (None, 0))(params, alphas)
    head = functools.partial(linear, params)
    results |= {
        'out_class_weights': weights,
        'out_s2_alpha': alphas,
        'out_s2_feature_noise': cc.cc_sam_feature_shift(head, features, labels, **shift),
        'out_s2_loss': losses,
    }
    return results | {f'grad_s2_{part}': gradients[part] for part in params}


def fcd_reading(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The averaged loss of stage 1, the clamp, and the distilled loss of stage 2.

    Stage 2's loss is taken at the weights before they are clamped.
    """
    features, labels = arrays['in_features'], arrays['in_labels']
    teacher, updated = arrays['in_teacher_logits'], arrays['in_weight_updated']
    temperature = float(arrays['hp_temperature'])

    def flat_loss(weight):
        return sharpness.average_over_noise(
            lambda weight: reduce.mean(cross_entropy(features @ weight.T, labels)),
            weight,
            arrays['in_noise'],
        )

    distilled = functools.partial(
        distillation.distilled_cross_entropy,
        teacher_logits=teacher,
        weight=float(arrays['hp_distill_weight']),
        temperature=temperature,
    )

    def stage2(weight):
        return reduce.mean(distilled(features @ weight.T, labels))

    divergence = distillation.kl_divergence(teacher, features @ updated.T, temperature=temperature)
    bound = float(arrays['hp_bound'])
    flat, flat_gradient = jax.jit(jax.value_and_grad(flat_loss))(arrays['in_weight'])
    value, gradient = jax.value_and_grad(stage2)(updated)
    return {
        'out_flat_loss': flat,
        'grad_flat_weight': flat_gradient,
        'out_clamped_weight': sharpness.project_to_box(updated, arrays['in_weight'], bound),
        'out_kl': reduce.mean(divergence),
        'out_stage2_loss': value,
        'grad_stage2_weight': gradient,
    }


CHECKS: dict[str, Check] = {
    'maxnorm': max_norm,
    'sgd_weight_decay': sgd_weight_decay,
    'sam': sam,
    'cc_sam': cc_sam,
    'fcd_reading': fcd_reading,
} | updates_inputs.CHECKS

TOLERANCES: dict[str, Tolerances] = {}

COVERS: dict[str, tuple[str, ...]] = {
    'maxnorm': ('max_norm_cap', 'project_max_norm'),
    'sgd_weight_decay': (),
    'sam': ('sam_perturbation', 'sam_value_and_grad'),
    'cc_sam': (
        'cc_sam_radii',
        'cc_sam_perturbations',
        'cc_sam_perturbed_logits',
        'cc_sam_head',
        'cc_sam_class_weights',
        'cc_sam_feature_shift',
        'cc_sam_features',
        'cc_sam_coefficient',
    ),
    'fcd_reading': (
        'average_over_noise',
        'project_to_box',
        'distilled_cross_entropy',
        'kl_divergence',
    ),
} | updates_inputs.COVERS
