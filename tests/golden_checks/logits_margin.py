"""Losses that shift logits by the size of their class: LDAM, seesaw, Gaussian clouds."""

from typing import Any

import jax
import jax.numpy as jnp

from golden_checks.compare import Arrays, Check, values_and_gradients
from ltjax.losses import margin, reduce
from ltjax.losses.class_weights import effective_number_weights


def ldam(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Margins, and the loss with and without deferred re-weighting."""
    labels, counts = arrays['in_labels'], arrays['hp_counts']
    margins = margin.ldam_margins(counts, max_margin=float(arrays['hp_max_m']))
    weights = effective_number_weights(counts, beta=float(arrays['hp_beta']))
    own_weights = jnp.asarray(weights, dtype)[labels]
    scale = float(arrays['hp_s'])

    def per_sample(at):
        return margin.ldam(at['cosine'], labels, margins=jnp.asarray(margins, dtype), scale=scale)

    outputs = {
        'loss': lambda at: reduce.mean(per_sample(at)),
        'loss_drw': lambda at: reduce.weighted_mean(per_sample(at), own_weights),
        'loss_drw_batchmean': lambda at: reduce.weighted_batch_mean(per_sample(at), own_weights),
    }
    at = {'cosine': arrays['in_cosine']}
    return values_and_gradients(outputs, at) | {
        'out_margins': margins,
        'out_drw_weights': weights,
        'out_per_sample': per_sample(at),
    }


def seesaw(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Consecutive batches with running counts, and the first with known counts."""
    options = {name: float(arrays[f'hp_{name}']) for name in ('p', 'q', 'eps')}

    def loss(logits, labels, counts):
        return reduce.mean(margin.seesaw(logits, labels, counts=counts, **options))

    def step(counts, batch):
        logits, labels = batch
        counts = margin.accumulated_counts(counts, labels)
        return counts, (counts, *jax.value_and_grad(loss)(logits, labels, counts))

    logits, labels = arrays['in_logits'], arrays['in_labels']
    known = jnp.asarray(arrays['hp_counts'])
    _, (counts, values, gradients) = jax.lax.scan(step, jnp.zeros_like(known), (logits, labels))
    fixed, fixed_gradient = jax.value_and_grad(loss)(logits[0], labels[0], known)
    return {
        'out_cum_samples': counts,
        'out_loss': values,
        'grad_logits': gradients,
        'out_loss_fixed_counts': fixed,
        'grad_fixed_counts_logits': fixed_gradient,
    }


def clouded(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Cloud sizes, both stages of GCL and its angular form."""
    labels, noise = arrays['in_labels'], arrays['in_noise']
    sizes = margin.cloud_sizes(arrays['hp_counts'])
    hp = {
        key[3:]: float(value)
        for key, value in arrays.items()
        if key.startswith('hp_') and not value.shape
    }

    def mean_of(loss, **options):
        return lambda at: reduce.mean(
            loss(
                at['cosine'],
                labels,
                noise=noise,
                cloud_size=jnp.asarray(sizes, dtype),
                **options,
            )
        )

    def stage(name, gamma):
        return mean_of(
            margin.gaussian_clouded,
            margin=hp[f'{name}_m'],
            scale=hp[f'{name}_s'],
            noise_scale=hp[f'{name}_noise_mul'],
            gamma=gamma,
        )

    def angular(easy_margin):
        return mean_of(
            margin.gaussian_clouded_angular,
            margin=hp['ang_m'],
            scale=hp['ang_s'],
            noise_scale=hp['ang_epsilon'],
            easy_margin=easy_margin,
        )

    outputs = {
        'stage1': stage('s1', 0.0),
        'stage2': stage('s2', hp['s2_gamma']),
        'angular': angular(False),
        'angular_easy': angular(True),
    }
    results = values_and_gradients(outputs, {'cosine': arrays['in_cosine']})
    return results | {'out_cloud_size': sizes}


CHECKS: dict[str, Check] = {'ldam': ldam, 'seesaw': seesaw, 'gcl': clouded}

COVERS: dict[str, tuple[str, ...]] = {
    'ldam': ('ldam', 'ldam_margins', 'effective_number_weights'),
    'seesaw': ('seesaw', 'accumulated_counts'),
    'gcl': ('gaussian_clouded', 'gaussian_clouded_angular', 'cloud_sizes'),
}
