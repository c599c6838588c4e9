"""OHEM: the hardest examples of each batch alone are learned (Shrivastava et al., CVPR 2016).

Of each batch the share `keep` with the largest cross-entropy counts. The paper selects regions of an image; for
classification no share is published.

    python -m ltjax.main --config=ohem                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=ohem:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

keep 0.7 is our choice.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    config.method = {'name': 'ohem', **values.supervised(experiment, keep=0.7)}
    return config
