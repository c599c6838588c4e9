"""ProCo: prototype-aware contrastive learning, in one stage from end to end (Yang et al., MICCAI 2022).

    python -m ltjax.main --config=configs/proco.py                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=configs/proco.py:chula_rbc12 --config.data.path=chula_rbc12_32.npz
    python -m ltjax.main --config=configs/proco.py:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png
    python -m ltjax.main --config=configs/proco.py:isic2018@proco --config.data.path=PREPARED

The paper's benchmarks (SET@proco) have its settings; it reports an accuracy of 88.7 % and an F1 of 76.3 % on ISIC 2018,
83.7 % and 67.4 % on APTOS 2019. The small sets and one's own have settings chosen on validation data: docs/proco.md.
No training code was released. A step encodes two views, one without a gradient.

Measured (docs/results.md): balanced accuracy 74.9 % on the embedded set (CE 73.2), 48.3 % on chula_rbc12 (CE 47.7).
Wall time: 100 s and 160 s on one CPU core.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    paper = bool(experiment.paper)
    rate = {} if paper else {'learning_rate': 0.3}  # on small sets
    config = settings.default(benchmark)
    config.method = {
        'name': 'proco',
        'proto_instances': True,
        'recalibration': 'additive',  # 'vector': eq. 6 to the letter; 'none'
        'inference': 'raw',  # prototypes without recalibration, as in the paper; or 'recalibrated'
        'through_prototypes': False,
        'width': 128,  # of F and G, one for both: eq. 3 mixes their spaces
        'hidden': 2048 if paper else 128,
        'queue': 1024,  # M
        'momentum': 0.999 if paper else 0.99,
        'num_negatives': 20,  # gamma
        'epsilon': 0.4,  # E
        'omega': 0.01,  # before the first step
        'beta': 0.95,
        'temperature': 1.0,  # of G(x) . s; the paper has none
        'prototype_weight': 1.0 if paper else 50.0,  # in entries of the queue; 1: the paper
        'train': experiment.training(key_view=experiment.view, optimizer=experiment.base(**rate)),
    }
    return config
