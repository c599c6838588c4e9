"""MiSLAS: mixup, then label-aware smoothing of a classifier with factors (Zhong et al., CVPR 2021).

The second stage learns a factor a class and, slower, the classifier on class-balanced draws, with labels that are
smoothed more the more frequent the class is. Features stay, but BatchNorm's statistics go on (shifted BatchNorm).

    python -m ltjax.main --config=mislas                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=mislas:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Mixup 0.2, smoothing from 0 to 0.3 by a sine, classifier at 0.05 of the learning rate: the released code's for ImageNet-
LT. Factors stay 1 in the first stage.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.engine.settings import Group
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    slow = {part: Group(rate=0.05) for part in ('classifier/kernel', 'classifier/bias')}
    config.method = {
        'name': 'mislas',
        **values.supervised(
            experiment,
            head={'name': 'rescaled'},
            mix={'name': 'mixup', 'alpha': 0.2},
            optimizer=values.holding(experiment, 'classifier/scale'),
        ),
        'retrain': values.retraining(
            experiment,
            loss={'name': 'label_aware_smoothing', 'head': 0.3, 'tail': 0.0, 'shape': 'concave'},
            batch_norm='batch',
            reset_classifier=False,
            optimizer=experiment.short(groups=slow),
        ),
    }
    return config
