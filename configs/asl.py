"""ASL: asymmetric loss on sigmoids (Ridnik et al., ICCV 2021).

Negatives are focused on more sharply than positives, and those with a probability below `clip` count nothing.

    python -m ltjax.main --config=asl                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=asl:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

gamma 0 and 4, clip 0.05, as ALPA compares with it.
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
        'name': 'asl',
        **values.supervised(
            experiment,
            loss={'name': 'asymmetric', 'gamma_pos': 0.0, 'gamma_neg': 4.0, 'clip': 0.05},
        ),
    }
    return config
