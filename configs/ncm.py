"""NCM: cross-entropy, then the nearest class mean of the training features (Kang et al., ICLR 2020).

The classifier is replaced by the means of the features of each class. Nothing is trained in the second stage.

    python -m ltjax.main --config=ncm                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=ncm:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Features as they are, of unit length, or centred and of unit length; squared distance or product: the best on
validation images; the released code has cl2n_l2.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    validated = experiment.select == 'best'  # else nothing is held out to choose it on
    config.method = {
        'name': 'ncm',
        **values.supervised(experiment, head={'name': 'nearest_mean'}),
        'adjust': {
            'name': 'nearest_mean',
            'rules': ('cl2n_l2', 'cl2n_cos', 'l2n_l2', 'l2n_cos', 'un_l2', 'un_cos')
            if validated
            else ('cl2n_l2',),
        },
    }
    return config
