"""Manifold mixup: the images, or feature maps of an early stage, are mixed in pairs (Verma et al., ICML 2019).

Each step draws where it mixes: the images, or the maps after the first or the second stage.

    python -m ltjax.main --config=manifold_mixup                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=manifold_mixup:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

alpha 1, as the tables of long tails have it; 2 in the paper.
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
        'name': 'manifold_mixup',
        **values.supervised(experiment, mix={'name': 'manifold_mixup', 'alpha': 1.0}),
    }
    return config
