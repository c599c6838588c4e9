"""The experiments of ICCL: Tiong et al., 2021, section 4.3, tables 1 to 3. None is medical."""

from collections.abc import Mapping

from ltjax.benchmarks.benchmark import Benchmark
from ltjax.engine.settings import Optimizer

_BY_COUNTS = {'groups.by': 'counts'}
_LAST = 'No image is held out to choose an epoch on: the last one is the result, as published.'


def _cifar(classes: int, ratio: int, images: int, **reported: float) -> Benchmark:
    return Benchmark(
        name=f'cifar{classes}_lt_r{ratio}@iccl',
        prepare=f'cifar_lt cifar{classes}',
        data={'split.protocol': f'exp_r{ratio}', 'split.val': 0.0, **_BY_COUNTS},
        model={'name': 'resnet32_cifar'},
        epochs=200,
        batch_size=128,
        optimizer=Optimizer(
            name='sgd',
            learning_rate=0.1,
            schedule='multistep',
            milestones=(120, 160),
            factor=0.01,
            warmup_epochs=5.0,
            momentum=0.9,
            weight_decay=2e-4,
        ),
        view='cifar',
        weak_view='flip',
        select='last',
        metrics=('accuracy',),
        classes=classes,
        images={'train': images, 'test': 10000},
        reported={method: {'accuracy': value} for method, value in reported.items()},
        readings=(_LAST, 'The rate is multiplied by 0.01 at epochs 120 and 160.'),
    )


def _inaturalist(name: str, epochs: int, crt: float, iccl: float) -> Benchmark:
    return Benchmark(
        name=name,
        prepare='inaturalist2018',
        data={
            'image_size': 224,
            'split.protocol': 'official',
            'split.val': 0.0,
            **_BY_COUNTS,
        },
        model={'name': 'resnet50', 'stem': 'imagenet'},
        epochs=epochs,
        batch_size=512,
        optimizer=Optimizer(
            name='sgd', learning_rate=0.2, schedule='cosine', momentum=0.9, weight_decay=1e-4
        ),
        view='crop_flip',
        weak_view='flip',
        select='last',
        metrics=('accuracy',),
        classes=8142,
        images={'train': 437513, 'test': 24426},
        reported=_accuracy({'crt': crt, 'iccl': iccl}),
        readings=(_LAST,),
    )


def _accuracy(reported: Mapping[str, float]) -> dict[str, dict[str, float]]:
    return {method: {'accuracy': value} for method, value in reported.items()}


BENCHMARKS = (
    _cifar(100, 100, 10847, cross_entropy=38.3, crt=42.3, iccl=46.6),
    _cifar(100, 50, 12608, cross_entropy=43.9, crt=46.8, iccl=51.6),
    _cifar(100, 10, 19573, cross_entropy=55.7, crt=58.1, iccl=62.1),
    _cifar(10, 100, 12406, cross_entropy=70.4, crt=75.7, iccl=82.1),
    _cifar(10, 50, 13996, cross_entropy=74.8, crt=80.4, iccl=84.7),
    _cifar(10, 10, 20431, cross_entropy=86.4, crt=88.3, iccl=89.7),
    Benchmark(
        name='imagenet_lt@iccl',
        prepare='imagenet_lt',
        data={'image_size': 224, 'split.protocol': 'official', **_BY_COUNTS},
        model={'name': 'resnext50_32x4d', 'stem': 'imagenet'},
        epochs=90,
        batch_size=256,
        optimizer=Optimizer(
            name='sgd', learning_rate=0.1, schedule='cosine', momentum=0.9, weight_decay=5e-4
        ),
        view='crop_flip_jitter',
        weak_view='flip',
        metrics=('accuracy',),
        classes=1000,
        images={'train': 115846, 'val': 20000, 'test': 50000},
        reported=_accuracy({'crt': 52.4, 'iccl': 54.0}),
        readings=(
            'The colour jitter is that of Kang et al., 2020, whose augmentations the text takes over.',
        ),
    ),
    _inaturalist('inaturalist2018@iccl', 90, 65.2, 70.5),
    _inaturalist('inaturalist2018@iccl_200', 200, 68.2, 72.5),
)
