"""cRT, decoupling: all images first, then a new, class-balanced classifier (Kang et al., ICLR 2020).

The features of the first stage stay as they are; a linear classifier is learned again on class-balanced draws.

    python -m ltjax.main --config=crt                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=crt:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Ten epochs of the second stage, as the paper.
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
        'name': 'crt',
        **values.supervised(experiment),
        'retrain': values.retraining(experiment),
    }
    return config
