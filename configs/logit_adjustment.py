"""Logit adjustment: cross-entropy of logits + tau log prior; plain logits at test (Menon et al., ICLR 2021).

Errors on rare classes cost more by the share of the class in the training images.

    python -m ltjax.main --config=logit_adjustment                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=logit_adjustment:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

tau 1, as the paper.
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
        'name': 'logit_adjustment',
        **values.supervised(experiment, loss={'name': 'logit_adjustment', 'tau': 1.0}),
    }
    return config
