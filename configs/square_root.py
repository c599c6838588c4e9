"""Cross-entropy on square-root sampling (Kang et al., ICLR 2020, eq. 1 with q = 1/2).

The probability of a class grows with the square root of its images: half way between the images as they are and
class-balanced draws.

    python -m ltjax.main --config=square_root                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=square_root:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    config.method = {'name': 'square_root', **values.supervised(experiment, sampler='square_root')}
    return config
