"""Cross-entropy on the training set as it is: the baseline of every table.

python -m ltjax.main --config=configs/cross_entropy.py                  # embedded Fashion-MNIST-LT mini
python -m ltjax.main --config=configs/cross_entropy.py:chula_rbc12 --config.data.path=chula_rbc12_32.npz

Measured (docs/results.md): balanced accuracy 73.2 % on the embedded set, 47.7 % on chula_rbc12.
Wall time: 70 s and 140 s on one CPU core.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    config.method = {'name': 'cross_entropy', 'train': experiment.training()}
    return config
