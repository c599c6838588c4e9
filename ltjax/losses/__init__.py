"""Losses, class statistics and samplers as pure functions on arrays.

A loss takes arrays and keyword-only hyper-parameters and returns one value per example (set losses
say what they return); the caller reduces with `mean`, `total` or `weighted_mean`. The folder
imports nothing else of ltjax, so that it can be copied into another project.
"""

from ltjax.losses._arrays import debug_checks
from ltjax.losses.classification import (
    generalized_cross_entropy,
    logit_adjusted,
    softmax_cross_entropy,
)
from ltjax.losses.distribution import (
    attraction,
    feature_distribution_consistency,
    quadratic_form,
    repulsion,
    squared_mahalanobis,
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
from ltjax.losses.reduce import mean, total, weighted_mean
from ltjax.losses.relation import (
    channel_relation,
    gram,
    normalise_rows,
    probability_consistency,
    sample_relation,
)
from ltjax.losses.samplers import (
    balanced_draws,
    class_balanced,
    class_prior,
    instance_balanced,
    instance_probabilities,
    log_prior,
    square_root,
)

__all__ = [
    'ClassGaussians',
    'attraction',
    'balanced_draws',
    'channel_relation',
    'cholesky_factors',
    'class_balanced',
    'class_gaussians',
    'class_prior',
    'debug_checks',
    'ema',
    'ema_decay',
    'feature_distribution_consistency',
    'generalized_cross_entropy',
    'gram',
    'instance_balanced',
    'instance_probabilities',
    'log_prior',
    'logit_adjusted',
    'mean',
    'normalise_rows',
    'probability_consistency',
    'quadratic_form',
    'reparameterise',
    'repulsion',
    'sample_relation',
    'softmax_cross_entropy',
    'square_root',
    'squared_mahalanobis',
    'total',
    'virtual_features',
    'weighted_mean',
    'whitening_matrices',
    'with_expected_counts',
]
