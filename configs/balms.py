"""BALMS: balanced softmax and a meta sampler (Ren et al., NeurIPS 2020).

The first stage is balanced softmax. The second learns a new classifier, by the same loss, from examples whose rates
for each class are learned with it: by how well it does on class-balanced images after a step on what was drawn.

    python -m ltjax.main --config=balms                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=balms:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Inner step 0.1, and Adam at 0.01 for rates that begin alike. As in the released code the classifier learns from the
examples on which the sampler looked ahead; redraw=True draws them anew by the moved rates.
"""

import dataclasses

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.engine.settings import Optimizer
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    config.method = {
        'name': 'balms',
        **values.supervised(experiment, loss={'name': 'logit_adjustment', 'tau': 1.0}),
        'retrain': {
            'epochs': 10,
            'batch_size': 128,
            'view': experiment.view,
            'optimizer': experiment.short(weight_decay=5e-4),
            'reset_classifier': True,
            'tau': 1.0,
            'power': 0.0,
            'inner_learning_rate': 0.1,
            'sampler_optimizer': dataclasses.asdict(Optimizer('adam', 0.01)),
            'redraw': False,
        },
    }
    return config
