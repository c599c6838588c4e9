"""SupCon, "CL": supervised contrastive learning, then a linear probe (Khosla et al., NeurIPS 2020).

In the first stage the views of images of one class are drawn together, those of other classes are candidates too. The
second learns a linear classifier on the features as they are.

    python -m ltjax.main --config=supcon               # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=supcon:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Temperature 0.1, base temperature 0.07 and a projection head of 128 dimensions, as the paper and its released code. The
probe takes ten epochs of all images, evenly, in place of the code's hundred.
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
        'name': 'supcon',
        **values.contrastive(
            experiment,
            loss={'name': 'supervised_contrastive', 'temperature': 0.1, 'base_temperature': 0.07},
            retrain={'sampler': 'instance_balanced'},
        ),
    }
    return config
