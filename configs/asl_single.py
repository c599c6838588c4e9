"""ASL for one label an image: asymmetric focusing on softmax probabilities (Ridnik et al., ICCV 2021).

The form of the released code for single labels, with label smoothing; without smoothing the negatives have no part.

    python -m ltjax.main --config=asl_single                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=asl_single:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

gamma 0 and 4, smoothing 0.1, as the code.
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
        'name': 'asl_single',
        **values.supervised(
            experiment,
            loss={
                'name': 'asymmetric_single',
                'gamma_pos': 0.0,
                'gamma_neg': 4.0,
                'label_smoothing': 0.1,
            },
        ),
    }
    return config
