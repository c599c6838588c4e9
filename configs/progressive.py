"""Cross-entropy on progressively balanced sampling (Kang et al., ICLR 2020, eq. 2).

The draws begin as the images are and end class-balanced, changing linearly from epoch to epoch.

    python -m ltjax.main --config=progressive                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=progressive:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png
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
        'name': 'progressive',
        **values.supervised(experiment, sampler='progressively_balanced'),
    }
    return config
