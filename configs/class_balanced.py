"""CB: cross-entropy weighted by the effective number of images (Cui et al., CVPR 2019).

A class of n images has the effective number (1 - beta^n) / (1 - beta), and the inverse of it as its weight.

    python -m ltjax.main --config=class_balanced                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=class_balanced:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

beta 0.9999, the largest that the paper tries, and that of the other tables.
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
        'name': 'class_balanced',
        **values.supervised(experiment, weights={'name': 'effective_number', 'beta': 0.9999}),
    }
    return config
