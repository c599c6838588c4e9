"""ConMix: SimCLR on mixtures of embeddings, without labels, then a linear probe (Li and Jia, ICLR 2025).

Each image of a batch goes into one of several mixtures by chance. The two views of a mixture, means of embeddings, are
drawn together, all other mixtures are apart.

    python -m ltjax.main --config=conmix               # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=conmix:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Temperature 0.2, one mixture for five images (100 in batches of 512), as the released code. The paper clusters without
labels, and its code learns a fifth of the epochs by another method (SDCLR); here mixtures are there from the first
step, and a class-balanced linear classifier takes the place of clustering.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    mixtures = max(2, 100 * experiment.batch_size // 512)
    config.method = {
        'name': 'conmix',
        **values.contrastive(
            experiment, loss={'name': 'mixed_nt_xent', 'temperature': 0.2, 'mixtures': mixtures}
        ),
    }
    return config
