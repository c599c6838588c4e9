"""Seesaw loss: rare classes are spared the push of frequent ones (Wang et al., CVPR 2021).

The push on a rarer class is mitigated by the counts of the training so far, and given back where the class is
mistaken for the true one.

    python -m ltjax.main --config=seesaw                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=seesaw:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

p 0.8, q 2, as the paper; plain linear classifier, without the objectness branch of detection.
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
        'name': 'seesaw',
        **values.supervised(experiment, loss={'name': 'seesaw', 'p': 0.8, 'q': 2.0, 'eps': 0.01}),
    }
    return config
