"""Remix: mixup that gives the label to the rarer class (Chou et al., ECCV Workshops 2020).

Images mix as in mixup. Where one class has kappa times the images of the other, the rarer one gets the label, unless
nearly nothing of it is in the mixture.

    python -m ltjax.main --config=remix                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=remix:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

kappa 3, tau 0.5, alpha 1, as the paper.
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
        'name': 'remix',
        **values.supervised(
            experiment, mix={'name': 'remix', 'alpha': 1.0, 'kappa': 3.0, 'tau': 0.5}
        ),
    }
    return config
