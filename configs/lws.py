"""LWS: all images first, then a factor a class, class-balanced (Kang et al., ICLR 2020).

The second stage keeps features and classifier, and learns by what each class's logit is multiplied.

    python -m ltjax.main --config=lws                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=lws:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Ten epochs of the second stage; factors are 1 until then and have no weight decay.
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
        'name': 'lws',
        **values.supervised(
            experiment,
            head={'name': 'rescaled'},
            optimizer=values.holding(experiment, 'classifier/scale'),
        ),
        'retrain': values.retraining(
            experiment,
            trains='classifier.scale',
            reset_classifier=False,
            optimizer=experiment.short(weight_decay=0.0),
        ),
    }
    return config
