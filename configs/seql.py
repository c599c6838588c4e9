"""SEQL: softmax equalization loss, which spares rare classes (Tan et al., CVPR 2020).

In the denominator of other images' softmax rare classes are left out, with probability gamma, so that these do not push
them down.

    python -m ltjax.main --config=seql                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=seql:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

gamma 0.9; rare is a class with less than half of 1 / K of the images, which are 0.005 of them for 100 classes.
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
        'name': 'seql',
        **values.supervised(
            experiment, loss={'name': 'softmax_equalization', 'gamma': 0.9, 'threshold': 0.5}
        ),
    }
    return config
