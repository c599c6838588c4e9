"""M2m: images of minor classes made from images of major ones (Kim et al., CVPR 2020).

A first network, trained as it is, guides the making: pixels of an image of a larger class move until it is sure of the
smaller one. A second network, from the same first weights, learns late from class-balanced draws and such images.

    python -m ltjax.main --config=m2m                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=m2m:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

beta 0.999, lambda 0.5, gamma 0.9, ten steps of length 0.1 after noise of radius 0.5, from the rate's first drop on (or
four fifths of the epochs), all as in the released code. On small sets each network has half of the epochs. Cost: from
then on twenty passes forth and back beside a step's own.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    # A paper's experiment trains both networks in full; small sets have as many steps as for other methods, shared.
    first = experiment.epochs if experiment.paper else experiment.epochs // 2
    second = experiment.epochs if experiment.paper else experiment.epochs - first
    config = settings.default(benchmark)
    config.method = {
        'name': 'm2m',
        'train': values.learning(experiment, epochs=first),
        'retrain': experiment.training(
            epochs=second,
            sampler='class_balanced',
            defer_until=values.late(experiment, second),
            beta=0.999,
            lam=0.5,
            confidence=0.9,  # gamma
            iterations=10,
            step_size=0.1,
            radius=0.5,
        ),
    }
    return config
