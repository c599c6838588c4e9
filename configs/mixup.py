"""Mixup: images and labels of a batch are mixed in pairs (Zhang et al., ICLR 2018).

A step draws one weight from Beta(alpha, alpha) for the whole batch.

    python -m ltjax.main --config=mixup                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=mixup:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

alpha 1, as the tables of long tails have it.
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
        'name': 'mixup',
        **values.supervised(experiment, mix={'name': 'mixup', 'alpha': 1.0}),
    }
    return config
