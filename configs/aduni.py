"""AdUni: adaptive unified contrastive learning (Cong et al., MLMI 2022), and PaCo, which it is compared with.

    python -m ltjax.main --config=configs/aduni.py                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=configs/aduni.py:chula_rbc12 --config.data.path=chula_rbc12_32.npz
    python -m ltjax.main --config=configs/aduni.py:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png
    python -m ltjax.main --config=configs/aduni.py:isic2018@aduni --config.data.path=PREPARED

The paper's benchmarks (SET@aduni) have its settings; it reports a five-fold accuracy and macro F1 of 87.8 and 80.5 % on
ISIC 2018, of 83.9 and 69.5 % on APTOS 2019. How the small sets' numbers were chosen: docs/aduni.md.

Measured (docs/results.md): balanced accuracy 76.8 % on the embedded set (CE 73.2), 60.1 % on chula_rbc12 (CE 47.7).
Wall time: 150 s and 240 s on one CPU core; two views of each image go through the network.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    config.method = {'name': 'aduni', **values.adaptive(experiment)}
    return config
