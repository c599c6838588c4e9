"""The experiments of ALPA: Kashyap et al., 2024, section 5, tables 3 to 5. Its DermaMNIST is HAM10000: isic2018."""

from ltjax.benchmarks.benchmark import Benchmark
from ltjax.engine.settings import Optimizer


def _alpa(name: str, classes: int, images: int, cross_entropy: float, alpa: float) -> Benchmark:
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
        reported={
            'cross_entropy': {'balanced_accuracy': cross_entropy},
            'alpa': {'balanced_accuracy': alpa},
        },
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
    _alpa('aptos2019', 5, 3662, 47.0, 65.0),
    _alpa('isic2018', 7, 10015, 23.0, 39.0),
    _alpa('bone_marrow', 17, 147904, 76.0, 77.0),
)
