"""Classifier re-training, cRT (Kang et al., 2020): all images first, then a new, balanced classifier.

python -m ltjax.main --config=configs/decoupling.py                  # embedded Fashion-MNIST-LT mini
python -m ltjax.main --config=configs/decoupling.py:chula_rbc12 --config.data.path=chula_rbc12_32.npz

Measured (docs/results.md): balanced accuracy 75.9 % on the embedded set (CE 73.2), 60.3 % on chula_rbc12 (CE 47.7).
Wall time: that of configs/cross_entropy.py, and a tenth of it for the classifier.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark; the second stage leaves the encoder as it is."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    config.method = {
        'name': 'decoupling',
        'train': experiment.training(),
        'retrain': experiment.training(
            epochs=10,
            batch_size=128,
            sampler='class_balanced',
            optimizer=experiment.short(weight_decay=5e-4),
        ),
    }
    return config
