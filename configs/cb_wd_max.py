"""CB+WD+Max: weight balancing (Alshammari et al., CVPR 2022).

The first stage is cross-entropy with strong weight decay. The second learns the classifier further with class-
balanced weights, weight decay and a bound on the norms of the classes.

    python -m ltjax.main --config=cb_wd_max                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=cb_wd_max:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Binary cross-entropy of softmax probabilities, beta 0.9999, weight decay 5e-3 (first stage) and 0.1 (second),
threshold 0.1 of the bound, as the released code; it projects once an epoch, we after each step.
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
        'name': 'cb_wd_max',
        **values.supervised(experiment, optimizer=experiment.base(weight_decay=5e-3)),
        'retrain': values.retraining(
            experiment,
            sampler='instance_balanced',
            loss={'name': 'softmax_binary_cross_entropy'},
            weights={'name': 'effective_number', 'beta': 0.9999},
            reset_classifier=False,
            optimizer=experiment.short(weight_decay=0.1, max_norm_threshold=0.1),
        ),
    }
    return config
