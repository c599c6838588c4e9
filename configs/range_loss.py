"""Range loss: cross-entropy, with narrow classes that keep a distance (Zhang et al., ICCV 2017).

The two widest pairs of each class in a batch are drawn together, the nearest two class centres pushed apart. A class
with a single image in the batch has no pair, so that large batches help.

    python -m ltjax.main --config=range_loss                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=range_loss:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Two pairs as the paper. Weights and margin depend on how long features are; these are ours, for features whose squared
distances are some ten.
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
        'name': 'range_loss',
        **values.supervised(
            experiment,
            penalty={'name': 'ranges', 'intra': 1e-3, 'inter': 1e-3, 'widest': 2, 'margin': 10.0},
        ),
    }
    return config
