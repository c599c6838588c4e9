"""The experiments of AdUni: Cong et al., MLMI 2022, section 3.1, table 1."""

from ltjax.benchmarks.benchmark import Benchmark
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
        reported={
            method: {'accuracy': accuracy, 'macro_f1': f1}
            for method, (accuracy, f1) in reported.items()
        },
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
        logit_adjustment=(86.2, 75.6),  # BALMS, whose meta sampler is not there
        crt=(86.1, 73.8),
        aduni=(87.8, 80.5),
    ),
    _aduni(
        'aptos2019',
        5,
        3662,
        cross_entropy=(81.3, 60.3),
        logit_adjustment=(82.6, 64.9),
        crt=(82.2, 66.1),
        aduni=(83.9, 69.5),
    ),
)
