"""Losses, class statistics, samplers and schedules as pure functions on arrays.

A loss takes arrays and keyword-only hyper-parameters and returns one value per example (set losses
say what they return); the caller reduces with `mean`, `total` or `weighted_mean`. An argument of
another shape or dtype is a ValueError that names it; `Raises:` says what else is one. The folder
imports nothing else of ltjax, so that it can be copied into another project. docs/losses.md lists
every function with its source.
"""

from ltjax.losses._arrays import debug_checks
from ltjax.losses.alignment import *
from ltjax.losses.asymmetric import *
from ltjax.losses.branches import *
from ltjax.losses.causal import *
from ltjax.losses.centroids import *
from ltjax.losses.class_probabilities import *
from ltjax.losses.class_sharpness import *
from ltjax.losses.class_weights import *
from ltjax.losses.classification import *
from ltjax.losses.contrastive import *
from ltjax.losses.distillation import *
from ltjax.losses.distribution import *
from ltjax.losses.equalisation import *
from ltjax.losses.focal import *
from ltjax.losses.gaussian import *
from ltjax.losses.heads import *
from ltjax.losses.input_gradients import *
from ltjax.losses.label_distribution import *
from ltjax.losses.margin import *
from ltjax.losses.memory import *
from ltjax.losses.meta_sampling import *
from ltjax.losses.mixing import *
from ltjax.losses.parametric import *
from ltjax.losses.proto_instances import *
from ltjax.losses.prototypes import *
from ltjax.losses.queues import *
from ltjax.losses.ranges import *
from ltjax.losses.reduce import *
from ltjax.losses.relation import *
from ltjax.losses.samplers import *
from ltjax.losses.schedules import *
from ltjax.losses.selection import *
from ltjax.losses.sharpness import *
from ltjax.losses.sigmoid import *
from ltjax.losses.translation import *
from ltjax.losses.weight_balancing import *

__all__ = [
    'ALPA_VERSIONS', 'PADE_COEFFICIENTS', 'ClassGaussians', 'MemoryLayers', 'MetaSample', 'NearestMeans',
    'PadeCoefficients', 'ProtoInstances', 'Queue', 'Ranges', 'accumulated_counts', 'adaptive_unified_contrastive',
    'aduni_alpha', 'aduni_learning_rate', 'adversarial_instances', 'aligned_logits', 'alpa',
    'asymmetric_multi_label', 'asymmetric_single_label', 'attraction', 'average_over_noise', 'balanced_blocks',
    'balanced_draws', 'balanced_mixup', 'balanced_softmax', 'bald', 'bilateral_coefficient', 'bilateral_logits',
    'bmix_cbrt', 'box_noise', 'calibration_factors', 'cc_sam_class_weights', 'cc_sam_coefficient',
    'cc_sam_feature_shift', 'cc_sam_features', 'cc_sam_head', 'cc_sam_learning_rate', 'cc_sam_perturbations',
    'cc_sam_perturbed_logits', 'cc_sam_radii', 'centroid_contrastive', 'centroid_logits', 'centroid_loss',
    'channel_relation', 'cholesky_factors', 'class_aware', 'class_balanced', 'class_gaussians', 'class_prior',
    'classifier_contrastive', 'cloud_sizes', 'cosine_logits', 'cosine_schedule', 'debug_checks',
    'deconfounded_logits', 'deferred_beta', 'deferred_resampling', 'deferred_weights', 'difficulty_aware',
    'difficulty_weights', 'direction_momentum', 'distilled_cross_entropy', 'distractor_distance', 'distractor_loss',
    'distractors', 'effective_number', 'effective_number_balanced', 'effective_number_weights', 'ema', 'ema_decay',
    'empty_queue', 'epoch_length', 'feature_distribution_consistency', 'focusing_factor', 'gaussian_clouded',
    'gaussian_clouded_angular', 'gcl_balanced', 'gcl_finetune_learning_rate', 'gcl_learning_rate',
    'generalized_cross_entropy', 'gram', 'hard_negatives', 'hardest_examples', 'inner_step', 'instance_balanced',
    'instance_probabilities', 'interpolate', 'interpolated_cross_entropy', 'interpolative_centroid_contrastive',
    'inverse_frequency', 'inverse_frequency_weights', 'inverse_softmax', 'kl_divergence', 'label_aware_smoothing',
    'lade_regulariser', 'ldam', 'ldam_learning_rate', 'ldam_margins', 'learnable_scaling', 'lengths',
    'linear_logits', 'log_prior', 'logit_adjusted', 'logit_adjustment', 'm2m_accepted', 'm2m_keep_probability',
    'm2m_seed_acceptance', 'm2m_seeds', 'm2m_start', 'm2m_translate', 'max_norm_cap', 'mean', 'memory_embedding',
    'meta_sample', 'meta_sampler_logits', 'meta_sampler_loss', 'meta_sampler_probabilities', 'mix_with_prototypes',
    'mixing_weight', 'mixup', 'nearest_mean_logits', 'nearest_means', 'nearest_prototype', 'negative_log_weights',
    'normalise_rows', 'normalised_linear', 'nt_xent', 'paco_learning_rate', 'parametric_contrastive',
    'per_sample_weights', 'post_hoc_adjusted', 'probability_consistency', 'progressive_share',
    'progressively_balanced', 'project_max_norm', 'project_to_box', 'proto_log_sums', 'proto_loss',
    'prototype_logits', 'push', 'quadratic_form', 'range_loss', 'rare_classes', 'recalibrated_prototypes',
    'remix_weight', 'reparameterise', 'repulsion', 'response_maps', 'reversed_log_prior', 'running_calibration',
    'sam_perturbation', 'sam_value_and_grad', 'sample_relation', 'seesaw', 'sigmoid_bias_init',
    'sigmoid_cross_entropy', 'sigmoid_focal', 'smoothing_factors', 'soft_target_cross_entropy',
    'softmax_binary_cross_entropy', 'softmax_cross_entropy', 'softmax_equalization', 'softmax_focal', 'square_root',
    'squared_mahalanobis', 'squashed_cosine_logits', 'supervised_contrastive', 'tau_normalised', 'total',
    'total_direct_effect', 'uncertainty_query', 'unit_vectors', 'update_centroids', 'update_direction',
    'vector_scales', 'vector_scaling', 'virtual_features', 'warmup_multistep', 'weighted_batch_mean',
    'weighted_mean', 'whitening_matrices', 'with_expected_counts',
]  # fmt: skip
