"""Manifold mixup of ordinary with class-balanced images, a baseline of ICCL (Tiong et al., 2021).

As manifold mixup, with a second, class-balanced stream of images in place of a permutation of the batch: two images a
step and place.

    python -m ltjax.main --config=manifold_mixup_two_samplers                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=manifold_mixup_two_samplers:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

alpha 1.
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
        'name': 'manifold_mixup_two_samplers',
        **values.supervised(experiment, mix={'name': 'manifold_mixup_two_samplers', 'alpha': 1.0}),
    }
    return config
