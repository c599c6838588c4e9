"""FCD, in our reading: a flat region, and a balanced fine-tuning inside it (Li et al., MICCAI 2022).

The first stage takes its loss at weights moved within a box, so that all of the box is good. The second stage, class-
balanced, leaves no weight outside the box, and holds the logits near those of the first stage. The paper leaves open
how; numbers of this row are no evidence for or against the method.

    python -m ltjax.main --config=fcd                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=fcd:folder --config.data.path=FOLDER  # FOLDER/<class>/*.png

Our choices: half width 0.01 of the box, two moved copies of the weights a step, a quarter of the epochs in the second
stage, at a tenth of the learning rate on all parameters with BatchNorm standing still, weight 0.5 and temperature 2 of
the teacher.
"""

from ml_collections import ConfigDict

from ltjax import benchmarks
from ltjax.methods import values
from ltjax.run import settings

BOX = 0.01


def get_config(benchmark: str = benchmarks.DEFAULT) -> ConfigDict:
    """Returns the settings for a benchmark."""
    experiment = benchmarks.get(benchmark)
    rate = experiment.optimizer.learning_rate / 10
    config = settings.default(benchmark)
    second = max(1, experiment.epochs // 4)
    config.method = {
        'name': 'fcd',
        **values.supervised(
            experiment,
            epochs=experiment.epochs - second,
            sharpness={'name': 'box_noise', 'bound': BOX, 'copies': 2},
        ),
        'retrain': values.retraining(
            experiment,
            epochs=second,
            batch_size=experiment.batch_size,
            trains='all',
            reset_classifier=False,
            distil={'weight': 0.5, 'temperature': 2.0},
            optimizer=experiment.short(learning_rate=rate, box=BOX),
        ),
    }
    return config
