"""Balanced-MixUp: images as they are, mixed with some of class-balanced ones (Galdran et al., MICCAI 2021).

The weight of the class-balanced image is drawn from Beta(alpha, 1), so that the ordinary image dominates.

    python -m ltjax.main --config=balanced_mixup                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=balanced_mixup:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

alpha 0.2; the paper tries 0.1 to 0.3.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    config.method = {
        'name': 'balanced_mixup',
        **values.supervised(experiment, mix={'name': 'balanced_mixup', 'alpha': 0.2}),
    }
    return config
