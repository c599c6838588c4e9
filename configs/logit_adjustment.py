"""Logit adjustment (Menon et al., 2021): cross-entropy on logits plus tau times the log class prior.

python -m ltjax.main --config=configs/logit_adjustment.py                  # embedded Fashion-MNIST-LT mini
python -m ltjax.main --config=configs/logit_adjustment.py:chula_rbc12 --config.data.path=chula_rbc12_32.npz

Measured (docs/results.md): balanced accuracy 75.8 % on the embedded set (CE 73.2), 58.5 % on chula_rbc12 (CE 47.7).
Wall time: 70 s and 120 s on one CPU core.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    config.method = {'name': 'logit_adjustment', 'tau': 1.0, 'train': experiment.training()}
    return config
