"""DisAlign: cross-entropy, then a calibration of its logits, re-weighted (Zhang et al., CVPR 2021).

The second stage keeps features and classifier; it learns a magnitude and a margin a class, and from the features how
much they count for an image.

    python -m ltjax.main --config=disalign                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=disalign:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Weights by 1 / n^1.2 and ten epochs, as the released code for ImageNet-LT. The calibration starts as none at all; the
released code starts at magnitude 2.
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
        'name': 'disalign',
        **values.supervised(
            experiment,
            head={'name': 'aligned'},
            optimizer=values.holding(experiment, 'classifier/calibration'),
        ),
        'retrain': values.retraining(
            experiment,
            sampler='instance_balanced',
            trains='classifier.calibration',
            reset_classifier=False,
            weights={'name': 'inverse_frequency', 'power': 1.2},
            divide_by='weights',
        ),
    }
    return config
