"""CICL, "CL+resample": SupCon on batches with equally many images of each class (Marrakchi et al., MICCAI 2021).

Both stages, contrastive learning and the linear probe, see every class equally often in every batch.

    python -m ltjax.main --config=cicl                 # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=cicl:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Of one's own data the number of classes shall divide method.train.batch_size and method.retrain.batch_size.

Temperature 0.1, as the paper; base temperature 0.07, a projection head of 128 dimensions and balanced blocks in the
probe too, as the released code. Batches are those of the benchmark, rounded to a multiple of its classes (the code has
192, and drops what is left over). An epoch has as many steps as that of other methods, not one pass over the largest
class for all. The probe takes ten epochs in place of a hundred.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    batches = values.blocks(experiment, experiment.batch_size)
    config.method = {
        'name': 'cicl',
        **values.contrastive(
            experiment,
            loss={'name': 'supervised_contrastive', 'temperature': 0.1, 'base_temperature': 0.07},
            **batches,
            retrain=values.blocks(experiment, 128),
        ),
    }
    return config
