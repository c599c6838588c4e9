"""CE-DRS: cross-entropy, with images re-sampled late in the training (Cao et al., NeurIPS 2019).

From the learning rate's first drop on, or from four fifths of the epochs, images are drawn by the effective number of
their class.

    python -m ltjax.main --config=ce_drs                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=ce_drs:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

beta 0.9999 of the sampler.
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
        'name': 'ce_drs',
        **values.supervised(
            experiment,
            sampler='effective_number_balanced',
            defer_until=values.late(experiment),
        ),
    }
    return config
