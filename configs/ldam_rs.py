"""LDAM-RS: LDAM on draws by the effective number of images (Cao et al., NeurIPS 2019).

The margins of LDAM, and re-sampling from the first epoch on.

    python -m ltjax.main --config=ldam_rs                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=ldam_rs:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Largest margin 0.5, scale 30, beta 0.9999 of the sampler, as the paper.
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
        'name': 'ldam_rs',
        **values.supervised(
            experiment,
            head={'name': 'cosine'},
            loss={'name': 'ldam', 'max_margin': 0.5, 'scale': 30.0},
            sampler='effective_number_balanced',
        ),
    }
    return config
