"""Post-hoc logit adjustment: cross-entropy, then logits - tau log prior (Menon et al., ICLR 2021).

What the training shares of the classes have put into the logits is taken out again. Nothing is trained in the second
stage.

    python -m ltjax.main --config=logit_adjustment_post_hoc                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=logit_adjustment_post_hoc:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

tau from 0 to 2, the best on validation images; 1 where none are held out.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    config = settings.default(benchmark)
    validated = experiment.select == 'best'  # else nothing is held out to choose it on
    config.method = {
        'name': 'logit_adjustment_post_hoc',
        **values.supervised(experiment),
        'adjust': {
            'name': 'prior',
            'tau': tuple(i / 4 for i in range(9)) if validated else (1.0,),
        },
    }
    return config
