"""LADE: balanced softmax, and logits drawn to log density ratios (Hong et al., CVPR 2021).

A bound of each class's divergence, estimated in every batch, takes the label distribution out of the logits.

    python -m ltjax.main --config=lade                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=lade:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

alpha 0.1 and lambda (`penalty`) 0.1 as in most of the released configs; they give 0.005 to 0.1 and 0.01 to 0.5.
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
        'name': 'lade',
        **values.supervised(experiment, loss={'name': 'lade', 'alpha': 0.1, 'penalty': 0.1}),
    }
    return config
