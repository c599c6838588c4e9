"""Samplers, queries and balanced blocks; schedules of learning rates and coefficients."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from golden_checks.compare import Arrays, Check, Tolerances
from ltjax import losses
from ltjax.losses import schedules


def class_probabilities(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Every sampler's class probabilities."""
    counts, epochs = arrays['hp_counts'], int(arrays['hp_prog_epochs'])
    instance, balanced, root = (
        sampler(counts)
        for sampler in (losses.instance_balanced, losses.class_balanced, losses.square_root)
    )
    progressive = np.stack(
        [
            losses.progressively_balanced(counts, epoch=epoch, epochs=epochs)
            for epoch in arrays['hp_prog_epoch_0based'].tolist()
        ]
    )
    return {
        'out_instance': instance,
        'out_bmix_instance': instance,
        'out_class_balanced': balanced,
        'out_bmix_class': balanced,
        'out_sqrt': root,
        'out_bmix_sqrt': root,
        'out_progressive': progressive,
        'out_bmix_prog': progressive,
        'out_bmix_cbrt': losses.bmix_cbrt(counts),
        'out_effective_number': losses.effective_number_balanced(counts),
        'out_gcl_cb_effective_number': losses.gcl_balanced(counts),
        'out_reverse': losses.inverse_frequency(counts),
        'out_class_aware': np.stack(
            [
                losses.class_aware(counts, gamma=gamma)
                for gamma in arrays['hp_class_aware_gamma'].tolist()
            ]
        ),
        'out_per_sample_weight_balanced': losses.per_sample_weights(balanced, counts),
        'out_class_aware_epoch_length': losses.epoch_length(counts),
    }


def flex_sampling(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Difficulty sampling, and the query by disagreement (stored with the opposite sign)."""
    accuracy = arrays['in_val_class_accuracy']
    disagreement = losses.bald(arrays['in_mc_probs'])
    return {
        'out_per_class_weight': losses.difficulty_weights(accuracy),
        'out_class_prob': losses.difficulty_aware(arrays['hp_counts'], accuracy=accuracy),
        'out_bald_uncertainty': -disagreement,
        'out_query': losses.uncertainty_query(disagreement, int(arrays['hp_n_query'])),
    }


def cicl_sampler(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """An epoch of balanced blocks."""
    permutations = arrays['in_perm']
    blocks = losses.balanced_blocks(
        arrays['hp_counts'], batch_size=int(arrays['hp_batch_size']), permutations=permutations
    )
    batches, _, per_class = blocks.shape
    return {
        'out_n_batches': batches,
        'out_items_per_class': per_class,
        'out_order': blocks.ravel(),
        'out_unused_per_class': permutations.shape[1] - batches * per_class,
    }


def iccl_sampler(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Probabilities of classes and of their images for every gamma."""
    counts = np.asarray(arrays['in_counts'])
    # The float32 inputs in float64: probabilities are made on the host.
    gammas = np.asarray(arrays['in_gamma'], np.float64).tolist()
    class_prob = [losses.class_aware(counts, gamma=gamma) for gamma in gammas]
    return {
        'out_class_prob': np.stack(class_prob),
        'out_instance_prob': np.stack(
            [losses.per_sample_weights(prob, counts) for prob in class_prob]
        ),
    }


def learning_rates_and_coefficients(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Every schedule over as many epochs as the file has values for."""
    peak, counts = float(arrays['hp_lr0']), arrays['hp_counts']
    drw_start, progressive_epochs, stage, end = (
        int(arrays[f'hp_{name}'])
        for name in ('drw_start', 'progressive_epochs', 'ccsam_stage', 'ccsam_max_epoch')
    )

    def epochs_of(key):
        return jnp.arange(len(arrays[key]))

    rates = {
        'out_lr_ldam': schedules.ldam_learning_rate(peak),
        'out_lr_m2m': schedules.ldam_learning_rate(peak),
        'out_lr_gcl_stage1': schedules.gcl_learning_rate(peak),
        'out_lr_ccsam_stage1': schedules.cc_sam_learning_rate(peak),
    }
    results = {key: rate(arrays['in_epoch']) for key, rate in rates.items()}
    key = 'out_lr_gcl_stage2'
    finetuning = schedules.gcl_finetune_learning_rate(peak, epochs=len(arrays[key]))
    results[key] = finetuning(epochs_of(key))
    key = 'out_lr_paco400'
    results[key] = schedules.paco_learning_rate(peak)(epochs_of(key))
    bbn_epochs = int(arrays['hp_bbn_epochs'])
    for key in arrays:
        name, _, suffix = key.rpartition('_')
        if name == 'out_cosine':
            results[key] = schedules.cosine_schedule(peak, epochs=int(suffix))(epochs_of(key))
        elif key.startswith('out_bbn_alpha'):
            length = int(suffix) if suffix.isdigit() else bbn_epochs
            results[key] = schedules.bilateral_coefficient(length)(epochs_of(key))
        elif key.startswith('out_ccsam_alpha_stage2'):
            limit = int(suffix[3:]) / 100 if suffix.startswith('cap') else 1.0
            coefficient = schedules.cc_sam_coefficient(start=stage, end=end, limit=limit)
            results[key] = coefficient(jnp.arange(stage, end))
    return results | {
        'out_progressive_t': schedules.progressive_share(
            np.arange(progressive_epochs), epochs=progressive_epochs
        ),
        'out_drw_beta': schedules.deferred_beta(np.asarray(arrays['in_epoch']), start=drw_start),
        'out_drw_weights': np.stack(
            [
                schedules.deferred_weights(counts, epoch=epoch, start=drw_start)
                for epoch in arrays['hp_drw_epochs'].tolist()
            ]
        ),
    }


def aduni_schedules(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The three readings of alpha, and the learning rate."""
    epoch = arrays['in_epoch']
    high, low, peak, decay_rate = (
        float(arrays[f'hp_{name}']) for name in ('alpha_max', 'alpha_min', 'lr0', 'lr_decay_rate')
    )
    t_decay, epochs, warmup_epochs = (
        int(arrays[f'hp_{name}']) for name in ('t_decay', 'epochs', 'warm_epochs')
    )

    def alpha(reading):
        return schedules.aduni_alpha(high, low, decay_epochs=t_decay, reading=reading)(epoch)

    rate = schedules.aduni_learning_rate(
        peak, epochs=epochs, warmup_epochs=warmup_epochs, decay_rate=decay_rate
    )
    return {
        'out_alpha_code': alpha('compounded'),
        'out_alpha_half_cosine': alpha('half_cosine'),
        'out_alpha_paper_literal': alpha('printed'),
        'out_lr_code': rate(epoch),
    }


CHECKS: dict[str, Check] = {
    'samplers': class_probabilities,
    'flex_sampling': flex_sampling,
    'cicl_sampler': cicl_sampler,
    'iccl_sampler': iccl_sampler,
    'schedules': learning_rates_and_coefficients,
    'aduni_schedules': aduni_schedules,
}

# Made on the host in float64 whatever the inputs are.
_HOST = (1e-9, 1e-9)
TOLERANCES: dict[str, Tolerances] = {
    'samplers': {'*': _HOST},
    'iccl_sampler': {'*': _HOST},
    'flex_sampling': {'*': _HOST},
}

COVERS: dict[str, tuple[str, ...]] = {
    'samplers': (
        'bmix_cbrt',
        'class_aware',
        'class_balanced',
        'effective_number_balanced',
        'epoch_length',
        'gcl_balanced',
        'instance_balanced',
        'per_sample_weights',
        'progressively_balanced',
        'inverse_frequency',
        'square_root',
    ),
    'flex_sampling': ('bald', 'difficulty_aware', 'difficulty_weights', 'uncertainty_query'),
    'cicl_sampler': ('balanced_blocks',),
    'iccl_sampler': ('class_aware', 'per_sample_weights'),
    'schedules': (
        'bilateral_coefficient',
        'cc_sam_coefficient',
        'cc_sam_learning_rate',
        'cosine_schedule',
        'deferred_beta',
        'deferred_weights',
        'gcl_finetune_learning_rate',
        'gcl_learning_rate',
        'ldam_learning_rate',
        'paco_learning_rate',
        'progressive_share',
    ),
    'aduni_schedules': ('aduni_alpha', 'aduni_learning_rate'),
}
