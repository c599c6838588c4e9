"""The experiments of ProCo: Yang et al., MICCAI 2022, section 4.2, table 1."""

from ltjax.benchmarks.benchmark import Benchmark, figures
from ltjax.engine.settings import Optimizer

# Table 1: accuracy and macro F1 on ISIC 2018, then on APTOS 2019.
_TABLE = {
    'cross_entropy': (85.0, 71.6, 81.2, 60.8),
    'resampling': (86.1, 73.5, 80.2, 58.3),
    'focal': (84.9, 72.8, 81.5, 62.9),
    'ldam': (85.7, 73.4, 81.3, 62.0),
    'ohem': (81.8, 66.0, 81.3, 63.1),
    'mtl': (81.1, 66.7, 81.3, 63.2),
    'danil': (82.5, 67.4, 82.5, 66.0),
    'supcon': (86.5, 73.9, 82.5, 65.2),
    'cicl': (86.8, 75.1, 81.6, 60.8),
    'proco': (88.7, 76.3, 83.7, 67.4),
}


def _proco(name: str, classes: int, images: int, epochs: int, column: int) -> Benchmark:
    return Benchmark(
        name=f'{name}@proco',
        prepare=name,
        data={'image_size': 224, 'split.protocol': '7_3'},
        model={'name': 'resnet50', 'stem': 'imagenet'},
        epochs=epochs,
        batch_size=128,
        optimizer=Optimizer(
            name='sgd', learning_rate=0.05, schedule='cosine', momentum=0.9, weight_decay=1e-4
        ),
        view='moco_v2',
        weak_view='flip',
        metrics=('accuracy', 'macro_f1'),
        classes=classes,
        images={'all': images},
        reported=figures(
            ('accuracy', 'macro_f1'), {m: row[column : column + 2] for m, row in _TABLE.items()}
        ),
        readings=(
            "Augmentations are MoCo v2's, as the text says, and so is the cosine, of which it says nothing.",
            'It names neither the size of the images nor initial weights: 224 px, from scratch.',
            'Crops are cut from squares of 224 pixels.',
            'A tenth of the training part is held out to choose the epoch on.',
        ),
    )


BENCHMARKS = (
    _proco('isic2018', 7, 10015, 1000, 0),
    _proco('aptos2019', 5, 3662, 2000, 2),
)
