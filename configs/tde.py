"""De-confound-TDE: the direction that momentum favours is taken out at inference (Tang et al., NeurIPS 2020).

The classifier is normalised, in two heads, and the running mean of the features is followed. At inference what lies
along it is subtracted from the features, times alpha.

    python -m ltjax.main --config=tde                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=tde:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Two heads, scale 16, gamma 1/32, momentum 0.9 as on CIFAR; alpha from 0 to 3, the best on validation images; 1.5 where
none are held out.
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
        'name': 'tde',
        **values.supervised(experiment, head={'name': 'deconfounded'}),
        'adjust': {
            'name': 'direct_effect',
            'alpha': tuple(i / 2 for i in range(7)) if validated else (1.5,),
        },
    }
    return config
