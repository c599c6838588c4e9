"""The experiments of ALPA: Kashyap et al., 2024, section 5, tables 3 to 5. Its DermaMNIST is HAM10000: isic2018."""

from ltjax.benchmarks.benchmark import Benchmark, figures
from ltjax.engine.settings import Optimizer


def _alpa(name: str, classes: int, images: int, **reported: float) -> Benchmark:
    return Benchmark(
        name=f'{name}@alpa',
        prepare=f'{name} --size 256' + (' --classes 17' if name == 'bone_marrow' else ''),
        data={'image_size': 256, 'split.protocol': '80_20'},
        model={
            'name': 'convnext_base',
            'stem': 'imagenet',
            'drop_path_rate': 0.0,
            'pretrained': 'timm/convnext_base.fb_in1k',
        },
        epochs=50,
        batch_size=128,
        optimizer=Optimizer(name='adam', learning_rate=1e-4, weight_decay=1e-3, clip_norm=1.0),
        view='alpa',
        weak_view='flip',
        metrics=('balanced_accuracy', 'accuracy', 'macro_f1'),
        classes=classes,
        images={'all': images},
        reported=figures(('balanced_accuracy',), {m: (value,) for m, value in reported.items()}),
        readings=(
            (
                "Epochs (50), augmentations, the bound on the gradient and the ImageNet weights are the code's; the "
                'text has none of them.'
            ),
            (
                'Of five folds in the training part one is validation: the protocols 80_20__0 to 80_20__4 have each in '
                "turn, and 80_20 a drawn fifth. The code's folds share one network, which leaks: ours do not."
            ),
        ),
    )


BENCHMARKS = (
    _alpa('aptos2019', 5, 3662, cross_entropy=47.0, sigmoid_focal=48.0, asl=57.0, alpa=65.0),
    _alpa('isic2018', 7, 10015, cross_entropy=23.0, sigmoid_focal=31.0, asl=35.0, alpa=39.0),
    _alpa('bone_marrow', 17, 147904, cross_entropy=76.0, sigmoid_focal=76.0, asl=75.0, alpa=77.0),
)
