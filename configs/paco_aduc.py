"""PaCo+AduC: PaCo with AdUni's alpha, which falls while training (Cong et al., MLMI 2022, table 1).

Queue and momentum encoder are PaCo's; alpha falls from 1 to 0.01, from features to classifier.

    python -m ltjax.main --config=paco_aduc            # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=paco_aduc:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

All values are AdUni's: docs/aduni.md.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    config.method = {'name': 'paco_aduc', **values.adaptive(experiment, variant='paco')}
    return config
