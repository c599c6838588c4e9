"""CC-SAM: flat minima class by class, in two stages (Zhou et al., CVPR 2023).

The first stage mixes images, and takes a share of the loss at a classifier made worse for the image's class, most for
rare ones. The second learns the classifier further on class-balanced draws, with features moved uphill.

    python -m ltjax.main --config=cc_sam                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=cc_sam:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Mixup 1, share 0.3, radius ratio 1e-6; second stage at a tenth of the learning rate, BatchNorm going on, as the
released code for CIFAR-10. Its second stage has 30 epochs, ours ten.
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
        'name': 'cc_sam',
        **values.supervised(
            experiment,
            mix={'name': 'mixup', 'alpha': 1.0},
            perturb={'name': 'classifier_by_class', 'noise_ratio': 1e-6, 'flat_ratio': 0.3},
        ),
        'retrain': values.retraining(
            experiment,
            batch_norm='batch',
            reset_classifier=False,
            perturb={'name': 'features_by_class', 'divisor': 2.0, 'scale': 1.0, 'limit': 1.0},
            optimizer=experiment.short(
                learning_rate=experiment.optimizer.learning_rate / 10, schedule='constant'
            ),
        ),
    }
    return config
