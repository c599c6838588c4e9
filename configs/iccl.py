"""ICCL: interpolative centroid contrastive learning, then a rebalanced classifier (Tiong et al., 2021).

    python -m ltjax.main --config=configs/iccl.py                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=configs/iccl.py:chula_rbc12 --config.data.path=chula_rbc12_32.npz
    python -m ltjax.main --config=configs/iccl.py:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png
    python -m ltjax.main --config=configs/iccl.py:cifar100_lt_r100@iccl --config.data.path=PREPARED

The paper's benchmarks (SET@iccl) have its settings; it reports 54.0 % accuracy on ImageNet-LT (ResNeXt-50) and 82.1 %
on CIFAR10-LT, r = 100 (ResNet-32), and has no medical set. Other papers' experiments get its ImageNet-LT numbers; the
small sets get those of its CIFAR-LT where they are the loss's (tau, d_z), but omega_u stays 1, which was better on
held-out training images than CIFAR-LT's 0.

Measured (docs/results.md): balanced accuracy 76.7 % on the embedded set (CE 73.2), 60.8 % on chula_rbc12 (CE 47.7).
Wall time: 160 s and 240 s on one CPU core; two passes through the network a step.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.benchmarks import Benchmark
from ltjax.run import settings

# T, epochs of the uniform branch alone; elsewhere four ninths of the epochs, as on ImageNet-LT.
WARMUP_EPOCHS = {
    'chula_rbc12': 12,
    **{
        f'cifar{classes}_lt_r{ratio}@iccl': t
        for classes, t in ((100, 80), (10, 100))
        for ratio in (100, 50, 10)
    },
    'inaturalist2018@iccl_200': 100,
}


def warmup_epochs(experiment: Benchmark) -> int:
    """Returns T; a small set's is half of its epochs."""
    usual = 4 * experiment.epochs // 9 if experiment.paper else experiment.epochs // 2
    return WARMUP_EPOCHS.get(experiment.name, usual)


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    cifar = benchmark.startswith('cifar')
    large = bool(experiment.paper) and not cifar
    rate = experiment.optimizer.learning_rate / 10
    config = settings.default(benchmark)
    config.method = {
        'name': 'iccl',
        'train': experiment.training(
            warmup_epochs=warmup_epochs(experiment),
            uniform_weight=0.0 if cifar else 1.0,  # omega_u, after the warm-up
            interpolative_weight=1.0,  # omega_it
            interpolated_cross_entropy=True,  # eq. 7
            centroid_contrast=True,  # eq. 5, and its form without mixing during the warm-up
            gamma=0.0,  # of the class-aware sampler: 0 balanced, 1 reversed, -1 uniform
            lam_alpha=1.0,  # lambda from Beta(alpha, beta)
            lam_beta=1.0,
            temperature=0.07 if large else 0.3,  # tau
            embedding_dim=128 if large else 32,
            centroid_momentum=0.99,
            centroid_rule='sequential',  # or mean, sum, printed: see docs/iccl.md
            normalise_centroids=False,
        ),
        'retrain': {
            'enabled': True,
            'epochs': 10,
            'batch_size': experiment.batch_size,
            'view': experiment.view,
            'trains': 'all' if cifar else 'classifier',  # all: the encoder is fine-tuned too
            'encoder_learning_rate': 0.01,
            'reset_classifier': False,
            'gamma': 1.0,  # gamma', of the sampler
            'distillation_weight': 0.5,  # omega_d
            'temperature': 10.0,  # tau_d
            'optimizer': experiment.short(learning_rate=rate, schedule='cosine'),
        },
    }
    return config
