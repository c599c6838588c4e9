"""Focal loss on softmax probabilities (Lin et al., ICCV 2017).

Examples that are predicted well count less, by (1 - p)^gamma. The form that long-tail papers on CIFAR compare with.

    python -m ltjax.main --config=focal                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=focal:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

gamma: 1 in the tables of LDAM-DRW, 2 in the paper; here 2.
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
        'name': 'focal',
        **values.supervised(experiment, loss={'name': 'focal', 'gamma': 2.0}),
    }
    return config
