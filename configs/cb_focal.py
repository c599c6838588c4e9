"""CB-Focal: sigmoid focal loss weighted by the effective number of images (Cui et al., CVPR 2019).

Both a rare class and a decision that is not yet learned count more. Sigmoids start at 1 / K, and their bias has no
weight decay.

    python -m ltjax.main --config=cb_focal                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=cb_focal:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

beta 0.9999; gamma 0.5, 1 or 2 in the paper, here 1.
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
        'name': 'cb_focal',
        **values.supervised(
            experiment,
            head={'name': 'linear', 'bias_init': 'uniform'},
            loss={'name': 'sigmoid_focal', 'gamma': 1.0},
            weights={'name': 'effective_number', 'beta': 0.9999},
            optimizer=experiment.base(groups={'classifier/bias': {'rate': 1.0, 'decay': 0.0}}),
        ),
    }
    return config
