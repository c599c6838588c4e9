"""Losses, class statistics, samplers and schedules as pure functions on arrays.

A loss takes arrays and keyword-only hyper-parameters and returns one value per example (set losses
say what they return); the caller reduces with `mean`, `total` or `weighted_mean`. The folder
imports nothing else of ltjax, so that it can be copied into another project. docs/losses.md lists
every function with its source.
"""

from ltjax.losses._arrays import debug_checks
from ltjax.losses.asymmetric import (
    ALPA_VERSIONS,
    PADE_COEFFICIENTS,
    PadeCoefficients,
    alpa,
    asymmetric_multi_label,
    asymmetric_single_label,
)
from ltjax.losses.branches import bilateral_logits
from ltjax.losses.causal import (
    deconfounded_logits,
    direction_momentum,
    total_direct_effect,
    update_direction,
)
from ltjax.losses.centroids import (
    centroid_contrastive,
    centroid_logits,
    interpolative_centroid_contrastive,
    update_centroids,
)
from ltjax.losses.class_probabilities import (
    bmix_cbrt,
    class_aware,
    class_balanced,
    deferred_resampling,
    difficulty_aware,
    difficulty_weights,
    effective_number_balanced,
    gcl_balanced,
    instance_balanced,
    inverse_frequency,
    progressively_balanced,
    square_root,
)
from ltjax.losses.class_sharpness import (
    cc_sam_class_weights,
    cc_sam_feature_shift,
    cc_sam_features,
    cc_sam_head,
    cc_sam_perturbations,
    cc_sam_perturbed_logits,
    cc_sam_radii,
)
from ltjax.losses.class_weights import (
    effective_number,
    effective_number_weights,
    inverse_frequency_weights,
    negative_log_weights,
)
from ltjax.losses.classification import (
    balanced_softmax,
    generalized_cross_entropy,
    logit_adjusted,
    logit_adjustment,
    post_hoc_adjusted,
    soft_target_cross_entropy,
    softmax_cross_entropy,
)
from ltjax.losses.contrastive import (
    classifier_contrastive,
    nt_xent,
    supervised_contrastive,
)
from ltjax.losses.distillation import (
    distilled_cross_entropy,
    kl_divergence,
)
from ltjax.losses.distribution import (
    attraction,
    feature_distribution_consistency,
    quadratic_form,
    repulsion,
    squared_mahalanobis,
)
from ltjax.losses.focal import (
    focusing_factor,
    softmax_focal,
)
from ltjax.losses.gaussian import (
    ClassGaussians,
    cholesky_factors,
    class_gaussians,
    ema,
    ema_decay,
    reparameterise,
    virtual_features,
    whitening_matrices,
    with_expected_counts,
)
from ltjax.losses.heads import (
    NearestMeans,
    cosine_logits,
    learnable_scaling,
    lengths,
    linear_logits,
    nearest_mean_logits,
    nearest_means,
    normalised_linear,
    tau_normalised,
    unit_vectors,
)
from ltjax.losses.input_gradients import (
    distractor_distance,
    distractor_loss,
    distractors,
    response_maps,
)
from ltjax.losses.margin import (
    accumulated_counts,
    cloud_sizes,
    gaussian_clouded,
    gaussian_clouded_angular,
    ldam,
    ldam_margins,
    seesaw,
)
from ltjax.losses.memory import (
    MemoryLayers,
    centroid_loss,
    memory_embedding,
    squashed_cosine_logits,
)
from ltjax.losses.meta_sampling import (
    MetaSample,
    inner_step,
    meta_sample,
    meta_sampler_logits,
    meta_sampler_loss,
    meta_sampler_probabilities,
)
from ltjax.losses.mixing import (
    balanced_mixup,
    interpolate,
    interpolated_cross_entropy,
    mixing_weight,
    mixup,
    remix_weight,
)
from ltjax.losses.parametric import (
    adaptive_unified_contrastive,
    parametric_contrastive,
)
from ltjax.losses.proto_instances import (
    ProtoInstances,
    adversarial_instances,
    hard_negatives,
    mix_with_prototypes,
    nearest_prototype,
    proto_log_sums,
    proto_loss,
)
from ltjax.losses.prototypes import (
    calibration_factors,
    prototype_logits,
    recalibrated_prototypes,
    running_calibration,
)
from ltjax.losses.queues import (
    Queue,
    empty_queue,
    push,
)
from ltjax.losses.reduce import (
    mean,
    total,
    weighted_batch_mean,
    weighted_mean,
)
from ltjax.losses.relation import (
    channel_relation,
    gram,
    normalise_rows,
    probability_consistency,
    sample_relation,
)
from ltjax.losses.samplers import (
    balanced_blocks,
    balanced_draws,
    bald,
    class_prior,
    epoch_length,
    instance_probabilities,
    log_prior,
    per_sample_weights,
    uncertainty_query,
)
from ltjax.losses.schedules import (
    aduni_alpha,
    aduni_learning_rate,
    bilateral_coefficient,
    cc_sam_coefficient,
    cc_sam_learning_rate,
    cosine_schedule,
    deferred_beta,
    deferred_weights,
    gcl_finetune_learning_rate,
    gcl_learning_rate,
    ldam_learning_rate,
    paco_learning_rate,
    progressive_share,
    warmup_multistep,
)
from ltjax.losses.selection import hardest_examples
from ltjax.losses.sharpness import (
    average_over_noise,
    box_noise,
    project_to_box,
    sam_perturbation,
    sam_value_and_grad,
)
from ltjax.losses.sigmoid import (
    sigmoid_bias_init,
    sigmoid_cross_entropy,
    sigmoid_focal,
    softmax_binary_cross_entropy,
)
from ltjax.losses.translation import (
    m2m_accepted,
    m2m_keep_probability,
    m2m_seed_acceptance,
    m2m_seeds,
    m2m_start,
    m2m_translate,
)
from ltjax.losses.weight_balancing import (
    max_norm_cap,
    project_max_norm,
)

__all__ = [
    'ALPA_VERSIONS', 'PADE_COEFFICIENTS', 'ClassGaussians', 'MemoryLayers', 'MetaSample', 'NearestMeans',
    'PadeCoefficients', 'ProtoInstances', 'Queue', 'accumulated_counts', 'adaptive_unified_contrastive',
    'aduni_alpha', 'aduni_learning_rate', 'adversarial_instances', 'alpa', 'asymmetric_multi_label',
    'asymmetric_single_label', 'attraction', 'average_over_noise', 'balanced_blocks', 'balanced_draws',
    'balanced_mixup', 'balanced_softmax', 'bald', 'bilateral_coefficient', 'bilateral_logits', 'bmix_cbrt',
    'box_noise', 'calibration_factors', 'cc_sam_class_weights', 'cc_sam_coefficient', 'cc_sam_feature_shift',
    'cc_sam_features', 'cc_sam_head', 'cc_sam_learning_rate', 'cc_sam_perturbations', 'cc_sam_perturbed_logits',
    'cc_sam_radii', 'centroid_contrastive', 'centroid_logits', 'centroid_loss', 'channel_relation',
    'cholesky_factors', 'class_aware', 'class_balanced', 'class_gaussians', 'class_prior', 'classifier_contrastive',
    'cloud_sizes', 'cosine_logits', 'cosine_schedule', 'debug_checks', 'deconfounded_logits', 'deferred_beta',
    'deferred_resampling', 'deferred_weights', 'difficulty_aware', 'difficulty_weights', 'direction_momentum',
    'distilled_cross_entropy', 'distractor_distance', 'distractor_loss', 'distractors', 'effective_number',
    'effective_number_balanced', 'effective_number_weights', 'ema', 'ema_decay', 'empty_queue', 'epoch_length',
    'feature_distribution_consistency', 'focusing_factor', 'gaussian_clouded', 'gaussian_clouded_angular',
    'gcl_balanced', 'gcl_finetune_learning_rate', 'gcl_learning_rate', 'generalized_cross_entropy', 'gram',
    'hard_negatives', 'hardest_examples', 'inner_step', 'instance_balanced', 'instance_probabilities',
    'interpolate', 'interpolated_cross_entropy', 'interpolative_centroid_contrastive', 'inverse_frequency',
    'inverse_frequency_weights', 'kl_divergence', 'ldam', 'ldam_learning_rate', 'ldam_margins', 'learnable_scaling',
    'lengths', 'linear_logits', 'log_prior', 'logit_adjusted', 'logit_adjustment', 'm2m_accepted',
    'm2m_keep_probability', 'm2m_seed_acceptance', 'm2m_seeds', 'm2m_start', 'm2m_translate', 'max_norm_cap',
    'mean', 'memory_embedding', 'meta_sample', 'meta_sampler_logits', 'meta_sampler_loss',
    'meta_sampler_probabilities', 'mix_with_prototypes', 'mixing_weight', 'mixup', 'nearest_mean_logits',
    'nearest_means', 'nearest_prototype', 'negative_log_weights', 'normalise_rows', 'normalised_linear', 'nt_xent',
    'paco_learning_rate', 'parametric_contrastive', 'per_sample_weights', 'post_hoc_adjusted',
    'probability_consistency', 'progressive_share', 'progressively_balanced', 'project_max_norm', 'project_to_box',
    'proto_log_sums', 'proto_loss', 'prototype_logits', 'push', 'quadratic_form', 'recalibrated_prototypes',
    'remix_weight', 'reparameterise', 'repulsion', 'response_maps', 'running_calibration', 'sam_perturbation',
    'sam_value_and_grad', 'sample_relation', 'seesaw', 'sigmoid_bias_init', 'sigmoid_cross_entropy',
    'sigmoid_focal', 'soft_target_cross_entropy', 'softmax_binary_cross_entropy', 'softmax_cross_entropy',
    'softmax_focal', 'square_root', 'squared_mahalanobis', 'squashed_cosine_logits', 'supervised_contrastive',
    'tau_normalised', 'total', 'total_direct_effect', 'uncertainty_query', 'unit_vectors', 'update_centroids',
    'update_direction', 'virtual_features', 'warmup_multistep', 'weighted_batch_mean', 'weighted_mean',
    'whitening_matrices', 'with_expected_counts',
]  # fmt: skip
