"""The experiments of AdUni: Cong et al., MLMI 2022, section 3.1, table 1."""

from ltjax.benchmarks.benchmark import Benchmark, figures
from ltjax.engine.settings import Optimizer


def _aduni(name: str, classes: int, images: int, **reported: tuple[float, float]) -> Benchmark:
    return Benchmark(
        name=f'{name}@aduni',
        prepare=f'{name} --size 384',
        data={'image_size': 384, 'split.protocol': '5_fold', 'split.fold': -1},
        model={'name': 'resnet18', 'stem': 'imagenet'},
        epochs=400,
        batch_size=128,
        optimizer=Optimizer(
            name='sgd',
            learning_rate=0.1,
            schedule='cosine',
            floor=0.001,
            momentum=0.9,
            weight_decay=1e-4,
        ),
        view='aduni',
        weak_view='lmd_weak',
        metrics=('accuracy', 'macro_f1'),
        classes=classes,
        images={'all': images},
        reported=figures(('accuracy', 'macro_f1'), reported),
        readings=(
            'The text decays the rate to 0.001, its code to 0.0001 after ten epochs of warm-up: the text counts.',
            "Weight decay, momentum and the ranges of the augmentations are the code's.",
            (
                'The folds are not published, and the best epoch was chosen on the test fold: here a part of the '
                'training folds is held out for that.'
            ),
        ),
    )


BENCHMARKS = (
    _aduni(
        'isic2018',
        7,
        10015,
        cross_entropy=(84.1, 70.1),
        balms=(86.2, 75.6),
        ldam=(85.1, 72.8),
        crt=(86.1, 73.8),
        cicl=(86.6, 76.0),
        paco=(86.4, 76.8),
        paco_aduc=(86.9, 77.3),
        aduni=(87.8, 80.5),
    ),
    _aduni(
        'aptos2019',
        5,
        3662,
        cross_entropy=(81.3, 60.3),
        balms=(82.6, 64.9),
        ldam=(81.5, 63.6),
        crt=(82.2, 66.1),
        cicl=(82.8, 67.6),
        paco=(82.5, 68.0),
        paco_aduc=(82.8, 68.7),
        aduni=(83.9, 69.5),
    ),
)
