"""RS: cross-entropy on class-balanced draws, also called over-sampling or CE+resample (Kang et al., ICLR 2020).

A step draws a class, all with the same probability, then an image of it. Images of rare classes come back often and
may be learned by heart.

    python -m ltjax.main --config=resampling                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=resampling:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png
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
        'name': 'resampling',
        **values.supervised(experiment, sampler='class_balanced'),
    }
    return config
