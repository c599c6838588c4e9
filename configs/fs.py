"""FS, flexible sampling: typical images first, then those that a network asks for (Ju et al., MICCAI 2022).

Features are learned without labels; each class begins with the images nearest to its mean; classes that prove hard then
get more of the images that the network is least sure of. Our reading: `ltjax/methods/flexible.py` says where.

    python -m ltjax.main --config=fs                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=fs:isic2019_lt_r100@lmd --config.data.path=PREPARED

A query takes a tenth of the images after ten passes, as the authors describe their code. A quarter of the epochs has no
labels, a third of the rest the anchors alone, and ten queries follow: ours, as are the anchors' exponent, the
floor and the temperature.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    without_labels = max(1, experiment.epochs // 4)
    epochs = experiment.epochs - without_labels
    config.method = {
        'name': 'fs',
        'pretrain': experiment.training(
            epochs=without_labels,
            second_view=experiment.view,
            loss={'name': 'nt_xent', 'temperature': 0.5},
            embedding_dim=128,
        ),
        'train': values.learning(experiment, epochs=epochs),
        'anchors': 0.5,  # s: n_min^(1-s) n_k^s images of class k
        'query': {
            'after': epochs // 3,
            'every': max(1, (epochs - epochs // 3) // 10),
            'share': 0.1,
            'passes': 10,
            'floor': 0.1,  # no class counts as more than ten times as hard as another
            'draw': 'difficulty',  # or 'uniform': all images in use alike
        },
    }
    return config
