"""SADE: three experts for three distributions of the classes, averaged (Zhang et al., NeurIPS 2022).

On one backbone one expert learns the training images' distribution of classes, one an even and one the reversed one;
the mean of their logits predicts. That the experts are weighted by unlabelled test images is left out.

    python -m ltjax.main --config=sade                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=sade:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Cosine classifiers of scale 30 and tau (the paper's lambda) 2, as in the released code. An expert is a residual block
behind the whole network; there it has the last two stages to itself.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    config.method = {
        'name': 'sade',
        'train': experiment.training(),
        'branches': {'name': 'experts', 'scale': 30.0, 'tau': 2.0},
    }
    return config
