"""VS: each class's logit has a factor and an offset in the loss (Kini et al., NeurIPS 2021).

Factors shrink the logits of rare classes, which have to grow larger for it; offsets are those of logit adjustment.

    python -m ltjax.main --config=vs                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=vs:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

gamma 0.3 and tau 1 are the defaults of the released code; the paper tunes both for each set.
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
        'name': 'vs',
        **values.supervised(experiment, loss={'name': 'vector_scaling', 'gamma': 0.3, 'tau': 1.0}),
    }
    return config
