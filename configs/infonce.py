"""InfoNCE: SimCLR without labels, then a linear probe (Chen et al., ICML 2020).

In the first stage the two views of an image are drawn together, all other images of the batch are apart. The second
learns a linear classifier, class-balanced, on the features as they are.

    python -m ltjax.main --config=infonce              # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=infonce:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

NT-Xent with temperature 0.5, as the paper has it on small images, and a projection head of 128 dimensions. Views are
the benchmark's, often weaker than SimCLR's: 'moco_v2' for method.train.view and second_view is close to its own.
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
        'name': 'infonce',
        **values.contrastive(experiment, loss={'name': 'nt_xent', 'temperature': 0.5}),
    }
    return config
