"""The experiments of ProCo: Yang et al., MICCAI 2022, section 4.2, table 1."""

from ltjax.benchmarks.benchmark import Benchmark
from ltjax.engine.settings import Optimizer


def _proco(
    name: str, classes: int, images: int, epochs: int, accuracy: float, f1: float
) -> Benchmark:
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
        reported={'proco': {'accuracy': accuracy, 'macro_f1': f1}},
        readings=(
            "Augmentations are MoCo v2's, as the text says, and so is the cosine, of which it says nothing.",
            'It names neither the size of the images nor initial weights: 224 px, from scratch.',
            'A tenth of the training part is held out to choose the epoch on.',
        ),
    )


BENCHMARKS = (
    _proco('isic2018', 7, 10015, 1000, 88.7, 76.3),
    _proco('aptos2019', 5, 3662, 2000, 83.7, 67.4),
)
