"""Cross-entropy on the training set as it is: the baseline of every table.

python -m ltjax.main --config=cross_entropy                  # embedded Fashion-MNIST-LT mini
python -m ltjax.main --config=cross_entropy:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    config.method = {'name': 'cross_entropy', **values.supervised(experiment)}
    return config
