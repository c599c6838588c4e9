"""MTL: multi-task learning, a second head on another label of the images, here their body site (our reading).

Cross-entropy of the label, and with a weight that of the site, as Liao and Luo (AAAI Workshops 2017) train them
together; images without a site have no part in the second. ProCo's table has a row of that name (accuracy 81.1 % and
F1 66.7 % on ISIC 2018) and does not say more.

    python -m ltjax.main --config=mtl:csv --config.data.path=FILE.csv --config.data.further="('scanner',)"
    python -m ltjax.main --config=mtl:isic2018@proco --config.data.path=PREPARED

The files must bring the column: a CSV, an array of an npz, or a prepared set (isic2018 and isic2019 have `site` and
`sex` where the metadata lie beside the images: docs/data.md). The embedded set has none, and is refused.

The weight is ours.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    config.data.further = ('site',)
    config.method = {
        'name': 'mtl',
        'column': '',  # the first of data.further
        'weight': 0.5,
        'train': experiment.training(),
    }
    return config
