"""Focal loss on sigmoids: a yes-or-no decision a class (Lin et al., ICCV 2017).

Easy decisions count less, by (1 - p)^gamma. Sigmoids start at 1 / K, lest the many easy negatives drown the rest.

    python -m ltjax.main --config=sigmoid_focal                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=sigmoid_focal:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

gamma 2, as the paper; the bias of the classifier has no weight decay.
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
        'name': 'sigmoid_focal',
        **values.supervised(
            experiment,
            head={'name': 'linear', 'bias_init': 'uniform'},
            loss={'name': 'sigmoid_focal', 'gamma': 2.0},
            optimizer=experiment.base(groups={'classifier/bias': {'rate': 1.0, 'decay': 0.0}}),
        ),
    }
    return config
