"""GCL: Gaussian clouds on the logits, then a re-balanced classifier (Li et al., CVPR 2022).

Noise that lowers the cosines, of rare classes most, makes the features of rare classes spread. The second stage
learns the classifier again on class-balanced draws.

    python -m ltjax.main --config=gcl                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=gcl:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

First stage: noise 0.5, scale 30. Second: margin 0.1, scale 20, focal gamma 1 and the sampler of the released code.
In LMD's experiments (SET@lmd) the clouds of the first stage are on the angles, noise 0.1 and margin 0.5: that paper
compares with the later form (Li et al., IEEE Transactions on Artificial Intelligence, 2024).
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    clouds: dict[str, float | str] = {'noise_scale': 0.5}
    if experiment.paper == 'lmd':
        clouds = {'form': 'angle', 'noise_scale': 0.1, 'margin': 0.5}
    config = settings.default(benchmark)
    config.method = {
        'name': 'gcl',
        **values.supervised(
            experiment,
            head={'name': 'cosine'},
            loss={'name': 'gaussian_clouded', **clouds, 'scale': 30.0},
        ),
        'retrain': values.retraining(
            experiment,
            sampler='gcl_balanced',
            loss={
                'name': 'gaussian_clouded',
                'noise_scale': 0.5,
                'margin': 0.1,
                'scale': 20.0,
                'gamma': 1.0,
            },
        ),
    }
    return config
