"""CE-DRW: cross-entropy, with classes weighted late in the training (Cao et al., NeurIPS 2019).

Weights by the effective number of images act from the learning rate's first drop on, or from four fifths of the epochs.

    python -m ltjax.main --config=ce_drw                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=ce_drw:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

beta 0.9999; a batch is divided by the sum of its weights.
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
        'name': 'ce_drw',
        **values.supervised(
            experiment,
            weights={'name': 'effective_number', 'beta': 0.9999},
            divide_by='weights',
            defer_until=values.late(experiment),
        ),
    }
    return config
