"""PaCo: parametric contrastive learning (Cui et al., ICCV 2021).

The first view is contrasted with the keys that a momentum encoder has of the second, with a queue of earlier keys, and
with the classes themselves, all in one softmax; alpha is the weight of a key of the same class.

    python -m ltjax.main --config=paco                 # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=paco:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Alpha 0.01, temperature 0.05, 1024 keys and momentum 0.999, as the paper on CIFAR. SET@aduni has temperature 0.1 for all
methods of its table, and so have small sets, with momentum 0.99: docs/aduni.md.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    own = experiment.paper not in ('', 'aduni')
    config.method = {
        'name': 'paco',
        **values.adaptive(
            experiment,
            variant='paco',
            alpha={'schedule': 'fixed'},
            temperature=0.05 if own else 0.1,
        ),
    }
    return config
