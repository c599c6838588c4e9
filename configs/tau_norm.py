"""tau-norm: cross-entropy, then class weights divided by their length to the power tau (Kang et al., ICLR 2020).

Frequent classes have longer weights, which win too often. Nothing is trained in the second stage; the bias is
dropped.

    python -m ltjax.main --config=tau_norm                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=tau_norm:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

tau from 0 to 1, the best on validation images; 0.7 where none are held out.
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
        'name': 'tau_norm',
        **values.supervised(experiment),
        'adjust': {
            'name': 'tau_norm',
            'tau': tuple(i / 10 for i in range(11)) if validated else (0.7,),
        },
    }
    return config
