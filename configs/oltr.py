"""OLTR: cross-entropy, then a memory of class centroids that helps rare classes (Liu et al., CVPR 2019).

The second stage adds to each feature what a mixture of the classes' centroids says of it, and attention to the last
feature map; a loss draws features to the centroid of their class.

    python -m ltjax.main --config=oltr                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=oltr:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

From the released code: a third of the epochs in the first stage, class-balanced draws in the second; there encoder and
centroids learn at a tenth of the classifier's rate. Centroid loss 0.01, margin 10, reach 10, scale 16.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    first = experiment.epochs // 3
    slow = {'rate': 0.1, 'decay': 1.0}
    config.method = {
        'name': 'oltr',
        'attention': True,
        'reach': 10.0,
        'scale': 16.0,
        'train': experiment.training(epochs=first),
        'retrain': experiment.training(
            epochs=experiment.epochs - first,
            sampler='class_balanced',
            optimizer=experiment.short(groups={'encoder': slow, 'classifier/centroids': slow}),
            centroid_weight=0.01,
            margin=10.0,
            repel_weight=0.01,
        ),
    }
    return config
