"""Classifier re-training, cRT (Kang et al., 2020): all images first, then a new, balanced classifier.

python -m ltjax.main --config=configs/decoupling.py                  # embedded Fashion-MNIST-LT mini
python -m ltjax.main --config=configs/decoupling.py:chula_rbc12 --config.data.path=chula_rbc12_32.npz

Measured (docs/results.md): balanced accuracy 75.9 % on the embedded set (CE 73.2), 60.3 % on chula_rbc12 (CE 47.7).
Wall time: that of configs/cross_entropy.py, and a tenth of it for the classifier.
"""

from ml_collections import ConfigDict

from ltjax.data import catalog
from ltjax.run import settings

# View and epochs: as many as both stages of configs/lmd.py together.
SMALL_STAGES = {'fashion_mnist_lt_mini': ('upright_weak', 40), 'chula_rbc12': ('cell_moderate', 25)}


def get_config(dataset: str = 'fashion_mnist_lt_mini') -> ConfigDict:
    """Returns the settings for a data set; the encoder makes as many steps as in configs/lmd.py."""
    paper = dataset in catalog.LARGE
    view, epochs = ('lmd_strong', 100) if paper else SMALL_STAGES.get(dataset, ('lmd_weak', 40))
    sgd = {
        'name': 'sgd',
        'learning_rate': 0.01 if paper else 0.1,
        'momentum': 0.9,
        'weight_decay': 0.0 if paper else 5e-4,
        'schedule': 'constant' if paper else 'cosine',
        'clip_norm': 0.0,
    }
    config = settings.default(dataset)
    config.method = {
        'name': 'decoupling',
        'train': {
            'epochs': epochs,
            'batch_size': 512 if paper else 128,
            'sampler': 'instance_balanced',
            'view': view,
            'optimizer': sgd,
        },
        'retrain': {
            'epochs': 10,
            'batch_size': 128,
            'sampler': 'class_balanced',
            'view': view,
            'optimizer': sgd | {'weight_decay': 5e-4},
        },
    }
    return config
