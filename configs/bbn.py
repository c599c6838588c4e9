"""BBN: two branches, one for images as they come and one for rare classes (Zhou et al., CVPR 2020).

Both stand on one backbone and share a classifier. Learning moves from the first to the second over the epochs, and
both say what an image is.

    python -m ltjax.main --config=bbn                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=bbn:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

The second branch draws classes by one over their number of images, and alpha falls with the square of the epoch: the
paper's. Each branch is a residual block behind the whole network, where the released code splits its last block.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    config.method = {
        'name': 'bbn',
        'train': experiment.training(),
        'branches': {'name': 'bilateral', 'sampler': 'inverse_frequency'},
    }
    return config
