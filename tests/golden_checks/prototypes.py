"""Centroids and prototypes: ICCL's centroids, losses and rebalancing; ProCo's parts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.compare import Arrays, Check, Tolerances, values_and_gradients
from ltjax.losses import (
    centroids,
    classification,
    distillation,
    gaussian,
    mixing,
    proto_instances,
    prototypes,
    queues,
    reduce,
    relation,
)


def iccl_centroid(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The centroids after a batch, by every rule."""

    def updated(rule):
        return centroids.update_centroids(
            arrays['in_centroids'],
            arrays['in_z'],
            arrays['in_labels'],
            momentum=float(arrays['hp_m']),
            rule=rule,
        )

    sequential, printed = updated('sequential'), updated('printed')
    return {
        'out_count': np.bincount(arrays['in_labels'], minlength=len(arrays['in_centroids'])),
        'out_sequential': sequential,
        'out_sequential_normalised': relation.normalise_rows(sequential),
        'out_sum_literal': printed,
        'out_sum_literal_normalised': relation.normalise_rows(printed),
        'out_sum_keep_absent': updated('sum'),
        'out_mean_keep_absent': updated('mean'),
    }


def iccl_losses(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Interpolation, the terms of both branches, the warm-up and the totals."""
    y_h, y_t, lam = arrays['in_y_h'], arrays['in_y_t'], arrays['in_lam']
    centres = {'centroids': arrays['in_centroids'], 'temperature': float(arrays['hp_tau'])}
    w_u, w_it = float(arrays['hp_w_u']), float(arrays['hp_w_it'])

    def cc_it(values, lam=lam):
        return centroids.interpolative_centroid_contrastive(
            values['z_f'], y_h, other_labels=y_t, lam=lam, **centres
        )

    def cc_warmup(values):
        return centroids.centroid_contrastive(values['z_h'], y_h, **centres)

    def ce(values):
        return classification.softmax_cross_entropy(values['logits_h'], y_h)

    def ce_it(values):
        return mixing.interpolated_cross_entropy(values['logits_f'], y_h, other_labels=y_t, lam=lam)

    def total(values, w_u=w_u):
        return w_u * ce(values) + w_it * (ce_it(values) + cc_it(values))

    per_example = {'cc_it': cc_it, 'cc_warmup': cc_warmup, 'ce': ce, 'ce_it': ce_it}
    values = {name: arrays[f'in_{name}'] for name in ('z_f', 'z_h', 'logits_f', 'logits_h')}
    means = per_example | {
        'cc_it_scalar_lam': lambda v: cc_it(v, float(arrays['in_lam_scalar'])),
        'total': total,
        'total_w_u0': lambda v: total(v, w_u=0.0),
        'warmup_total': lambda v: ce(v) + cc_warmup(v),
    }
    outputs = {name: lambda v, f=f: reduce.mean(f(v)) for name, f in means.items()}
    outputs['total_sum'] = lambda v: reduce.total(total(v))
    results = values_and_gradients(outputs, values)
    results |= {f'out_{name}_per_sample': f(values) for name, f in per_example.items()}
    logits = centroids.centroid_logits(arrays['in_z_f'], **centres)
    return results | {
        'out_x_f': mixing.interpolate(arrays['in_x_h'], arrays['in_x_t'], lam),
        'out_centroid_prob': jax.nn.softmax(logits),
    }


def iccl_rebalance(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Cross-entropy, divergence and their weighted sum."""
    teacher, labels = arrays['in_teacher_logits'], arrays['in_labels']
    temperature = float(arrays['hp_tau_d'])

    def ce(values):
        return classification.softmax_cross_entropy(values['student_logits'], labels)

    def kl(values):
        return distillation.kl_divergence(
            teacher, values['student_logits'], temperature=temperature
        )

    def total(values):
        return distillation.distilled_cross_entropy(
            values['student_logits'],
            labels,
            teacher_logits=teacher,
            weight=float(arrays['hp_w_d']),
            temperature=temperature,
        )

    values = {'student_logits': arrays['in_student_logits']}
    means = {'ce': ce, 'kl': kl, 'total': total}
    results = values_and_gradients(
        {name: lambda v, f=f: reduce.mean(f(v)) for name, f in means.items()}, values
    )
    return results | {'out_ce_per_sample': ce(values), 'out_kl_per_sample': kl(values)}


def proco_calibration(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Calibration factors of the batch, their average, and both readings of equation 6."""
    f, protos = arrays['in_f'], arrays['in_prototypes']
    omega, counts = prototypes.calibration_factors(f, arrays['in_labels'], protos)
    running = prototypes.running_calibration(
        arrays['in_omega_prev'], omega, counts, beta=float(arrays['hp_beta'])
    )
    logits = {
        reading: prototypes.prototype_logits(f, protos, omega=running, recalibration=reading)
        for reading in ('additive', 'vector')
    }
    return {
        'out_count': counts,
        'out_omega_batch': omega,
        'out_omega_new': running,
        'out_prototypes_recal': prototypes.recalibrated_prototypes(protos, running),
        'out_logits_recal_vector': logits['vector'],
        'out_logits_recal_additive': logits['additive'],
    }


def proco_protoloss(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Proto-instances, both sums and the loss, by every reading, with gradients."""
    labels, rows = arrays['in_labels'], arrays['in_queue']
    queue = queues.Queue(rows, arrays['in_queue_labels'], jnp.ones(len(rows), bool), jnp.array(0))
    num_negatives = int(arrays['hp_gamma'])

    def instances(values, through=False):
        return proto_instances.adversarial_instances(
            values['g'],
            labels,
            queue=queue,
            prototypes=values['prototypes'],
            num_negatives=num_negatives,
            negative_epsilon=arrays['in_eps_neg'],
            positive_epsilon=arrays['in_eps_pos'],
            through_prototypes=through,
        )

    def logits(values, reading):
        options = {'omega': arrays['in_omega'], 'recalibration': reading}
        return prototypes.prototype_logits(
            values['f'], values['prototypes'], **({} if reading == 'plain' else options)
        )

    def proto(function, values, reading, through=False):
        extra = None if reading == 'plain' else instances(values, through)
        return function(logits(values, reading), values['g'], labels, queue=queue, instances=extra)

    def loss(values, reading, through=False):
        return reduce.mean(proto(proto_instances.proto_loss, values, reading, through))

    values = {'g': arrays['in_g'], 'f': arrays['in_f'], 'prototypes': arrays['in_prototypes']}
    made = instances(values)
    results = {
        'out_neg_instance': made.negatives,
        'out_pos_mask': made.positive_mask,
        'out_pos_instance': made.positives,
        'out_queue_pred': proto_instances.nearest_prototype(rows, values['prototypes']),
    }
    results['out_neg_index'], results['out_neg_distance'] = proto_instances.hard_negatives(
        values['g'], labels, queue, num_negatives=num_negatives
    )
    compiled = jax.jit(jax.value_and_grad(loss), static_argnums=(1, 2))
    for reading in ('additive', 'vector', 'plain'):
        value, gradients = compiled(values, reading)
        results[f'out_loss_{reading}'] = value
        results |= {f'grad_{name}_{reading}': grad for name, grad in gradients.items()}
        results[f'grad_prototypes_through_{reading}'] = compiled(values, reading, True)[1][
            'prototypes'
        ]
        results[f'out_logits_{reading}'] = logits(values, reading)
        sums = proto(proto_instances.proto_log_sums, values, reading)
        results[f'out_lse_neg_{reading}'], results[f'out_lse_pos_{reading}'] = sums
        results[f'out_per_sample_{reading}'] = proto(proto_instances.proto_loss, values, reading)
    return results


def proco_queue(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The queue after every step, and the momentum encoder after one."""
    rows = arrays['in_queue']
    full = jnp.ones(len(rows), bool)
    queue = queues.Queue(rows, arrays['in_queue_labels'], full, jnp.zeros((), jnp.int32))

    def step(queue, batch):
        queue = queues.push(queue, *batch)
        return queue, queue

    _, states = jax.lax.scan(step, queue, (arrays['in_keys'], arrays['in_key_labels']))
    momentum = float(arrays['hp_momentum'])
    return {
        'out_queue': states.features,
        'out_queue_labels': states.labels,
        'out_ptr': states.pointer,
        'out_param_k': gaussian.ema(arrays['in_param_k'], arrays['in_param_q'], momentum),
    }


CHECKS: dict[str, Check] = {
    'iccl_centroid': iccl_centroid,
    'iccl_losses': iccl_losses,
    'iccl_rebalance': iccl_rebalance,
    'proco_calibration': proco_calibration,
    'proco_protoloss': proco_protoloss,
    'proco_queue': proco_queue,
}
TOLERANCES: dict[str, Tolerances] = {}
COVERS: dict[str, tuple[str, ...]] = {
    'iccl_centroid': ('update_centroids', 'normalise_rows'),
    'iccl_losses': (
        'centroid_logits',
        'centroid_contrastive',
        'interpolative_centroid_contrastive',
        'interpolated_cross_entropy',
        'interpolate',
    ),
    'iccl_rebalance': ('kl_divergence', 'distilled_cross_entropy'),
    'proco_calibration': (
        'calibration_factors',
        'running_calibration',
        'recalibrated_prototypes',
        'prototype_logits',
    ),
    'proco_protoloss': (
        'hard_negatives',
        'nearest_prototype',
        'mix_with_prototypes',
        'adversarial_instances',
        'proto_log_sums',
        'proto_loss',
    ),
    'proco_queue': ('push', 'ema'),
}
