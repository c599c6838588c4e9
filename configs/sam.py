"""SAM: cross-entropy at the worst weights nearby (Foret et al., ICLR 2021).

A first pass finds the direction in which the loss grows most; the gradient is taken at the weights moved by rho along
it. Two passes a step.

    python -m ltjax.main --config=sam                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=sam:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

rho 0.05, as the paper.
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
        'name': 'sam',
        **values.supervised(experiment, sharpness={'name': 'sam', 'rho': 0.05}),
    }
    return config
