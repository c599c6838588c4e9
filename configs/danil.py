"""DANIL, in our reading: distractor-aware intrinsic learning (Gong et al., MICCAI 2020).

Beside the cross-entropy the input gradients of the true class and of its strongest rival are pushed apart. The paper
leaves open how; numbers of this row are no evidence for or against the method.

    python -m ltjax.main --config=danil                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=danil:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

weight 0.1 is our choice.
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
        'name': 'danil',
        **values.supervised(experiment, penalty={'name': 'distractor', 'weight': 0.1}),
    }
    return config
