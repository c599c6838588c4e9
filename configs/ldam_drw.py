"""LDAM-DRW: LDAM, with classes weighted late in the training (Cao et al., NeurIPS 2019).

The margins of LDAM; weights by the effective number of images act from the learning rate's first drop on, or from
four fifths of the epochs, when the features have formed.

    python -m ltjax.main --config=ldam_drw                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=ldam_drw:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Largest margin 0.5, scale 30, beta 0.9999; a batch is divided by the sum of its weights, as in the released code.
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
        'name': 'ldam_drw',
        **values.supervised(
            experiment,
            head={'name': 'cosine'},
            loss={'name': 'ldam', 'max_margin': 0.5, 'scale': 30.0},
            weights={'name': 'effective_number', 'beta': 0.9999},
            divide_by='weights',
            defer_until=values.late(experiment),
        ),
    }
    return config
