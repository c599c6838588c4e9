"""LDAM: margins that grow with the rarity of the class (Cao et al., NeurIPS 2019).

The cosine of the true class must exceed the others by a margin proportional to n^(-1/4).

    python -m ltjax.main --config=ldam                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=ldam:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Largest margin 0.5, scale 30, as the paper.
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
        'name': 'ldam',
        **values.supervised(
            experiment,
            head={'name': 'cosine'},
            loss={'name': 'ldam', 'max_margin': 0.5, 'scale': 30.0},
        ),
    }
    return config
