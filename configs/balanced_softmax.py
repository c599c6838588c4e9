"""Balanced softmax: cross-entropy of logits + log n, n the images of the class (Ren et al., NeurIPS 2020).

The softmax of the training has the long tail built in, so that the plain logits of the test are those of balanced
classes. It is logit adjustment with tau = 1.

    python -m ltjax.main --config=balanced_softmax                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=balanced_softmax:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png
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
        'name': 'balanced_softmax',
        **values.supervised(experiment, loss={'name': 'logit_adjustment', 'tau': 1.0}),
    }
    return config
