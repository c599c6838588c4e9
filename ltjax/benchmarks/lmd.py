"""The experiments of LMD: Pan et al., 2025, sections 4.1 and 4.2, tables 1 to 3."""

from typing import Any

from ltjax.benchmarks.benchmark import Benchmark
from ltjax.engine.settings import Optimizer

_AUC_BACC = ('balanced_accuracy', 'macro_auc')


def _lmd(name: str, prepare: str, protocol: str, **values: Any) -> Benchmark:
    return Benchmark(
        name=f'{name}@lmd',
        prepare=prepare,
        data={'image_size': 224, 'split.protocol': protocol},
        model={
            'name': 'resnet18',
            'stem': 'imagenet',
            'pretrained': 'timm/resnet18.tv_in1k',
        },
        epochs=100,
        batch_size=512,
        optimizer=Optimizer(name='sgd', learning_rate=0.01, momentum=0.9),
        view='lmd_strong',
        weak_view='lmd_weak',
        readings=(
            'Batches are of 128 images on each of four GPUs: 512 in all, as in the code.',
            (
                "Views, epochs (100), momentum (0.9), a constant rate and no weight decay are the code's; the text has "
                'none of them, and lists the operations of the strong view in other words.'
            ),
        ),
        **values,
    )


def _isic2019(
    ratio: int, train: int, val: int, test: int, **reported: tuple[float, float]
) -> Benchmark:
    return _lmd(
        f'isic2019_lt_r{ratio}',
        'isic2019',
        f'lmd_r{ratio}',
        metrics=_AUC_BACC,
        classes=8,
        images={'train': train, 'val': val, 'test': test},
        reported={
            method: {'macro_auc': auc, 'balanced_accuracy': bacc}
            for method, (auc, bacc) in reported.items()
        },
    )


BENCHMARKS = (
    _isic2019(
        100,
        16170,
        2313,
        4621,
        cross_entropy=(89.35, 51.22),
        crt=(94.97, 60.56),
        lmd=(95.11, 70.75),
    ),
    _isic2019(
        300,
        14220,
        2035,
        4064,
        cross_entropy=(87.54, 47.16),
        crt=(92.79, 53.89),
        lmd=(94.01, 59.39),
    ),
    _isic2019(
        500,
        13556,
        1939,
        3874,
        cross_entropy=(83.89, 39.05),
        crt=(90.91, 52.44),
        lmd=(93.69, 56.88),
    ),
    _lmd(
        'isic_archive_lt',
        'isic_archive',
        'lmd',
        metrics=('balanced_accuracy',),
        classes=14,
        images={'train': 17508, 'val': 2509, 'test': 5003},
        reported={
            'cross_entropy': {'balanced_accuracy': 46.21},
            'crt': {'balanced_accuracy': 47.90},
            'lmd': {'balanced_accuracy': 61.63},
        },
    ),
    _lmd(
        'hyper_kvasir',
        'hyper_kvasir',
        '8_1_1',
        metrics=(
            'macro_recall',
            'macro_auc',
            'macro_f1',
            'quadratic_kappa',
            'macro_precision',
        ),
        classes=23,
        images={'train': 8528, 'val': 1067, 'test': 1067},
        reported={
            method: dict(
                zip(
                    ('macro_auc', 'macro_f1', 'quadratic_kappa', 'macro_precision', 'macro_recall'),
                    numbers,
                    strict=True,
                )
            )
            for method, numbers in {
                'cross_entropy': (95.61, 46.62, 78.54, 47.78, 47.53),
                'crt': (94.68, 60.53, 86.07, 60.92, 60.36),
                'lmd': (98.96, 62.99, 92.43, 62.35, 67.27),
            }.items()
        },
    ),
)
