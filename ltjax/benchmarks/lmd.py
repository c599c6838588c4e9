"""The experiments of LMD: Pan et al., 2025, sections 4.1 and 4.2, tables 1 to 3."""

from typing import Any

from ltjax.benchmarks.benchmark import Benchmark, figures
from ltjax.engine.settings import Optimizer

_AUC_BACC = ('balanced_accuracy', 'macro_auc')
# Table 3: AUC and balanced accuracy at r = 100, 300 and 500.
_ISIC2019 = {
    'cross_entropy': (89.35, 51.22, 87.54, 47.16, 83.89, 39.05),
    'resampling': (94.93, 59.65, 91.46, 55.59, 86.08, 42.63),
    'focal': (94.98, 57.47, 92.55, 48.49, 92.11, 46.98),
    'ldam_rs': (93.40, 56.09, 90.26, 48.37, 88.96, 48.14),
    'cb_focal': (92.28, 61.51, 88.61, 52.85, 86.47, 48.89),
    'crt': (94.97, 60.56, 92.79, 53.89, 90.91, 52.44),
    'seesaw': (94.85, 62.37, 91.93, 55.09, 90.09, 52.26),
    'cicl': (94.50, 58.43, 92.15, 54.27, 89.53, 51.73),
    'balanced_mixup': (93.84, 51.91, 93.40, 49.66, 90.61, 40.77),
    'cb_wd_max': (93.40, 58.04, 91.35, 50.07, 85.83, 48.47),
    'fcd': (93.52, 63.49, 92.07, 56.23, 89.64, 50.36),
    'fs': (92.21, 62.03, 90.89, 53.95, 88.62, 48.29),
    'cc_sam': (94.30, 65.36, 91.71, 55.26, 89.45, 52.66),
    'gcl': (93.76, 62.83, 92.22, 54.48, 90.64, 50.58),
    'lmd': (95.11, 70.75, 94.01, 59.39, 93.69, 56.88),
}
# Table 2, overall.
_ISIC_ARCHIVE = {
    'cross_entropy': 46.21,
    'resampling': 49.00,
    'focal': 44.77,
    'ldam_rs': 43.90,
    'cb_focal': 46.27,
    'crt': 47.90,
    'seesaw': 52.98,
    'cicl': 51.65,
    'balanced_mixup': 43.03,
    'cb_wd_max': 37.65,
    'fcd': 52.87,
    'fs': 51.89,
    'cc_sam': 57.61,
    'gcl': 51.06,
    'lmd': 61.63,
}
# Table 1: AUC, F1, kappa, precision, recall.
_HYPER_KVASIR = {
    'cross_entropy': (95.61, 46.62, 78.54, 47.78, 47.53),
    'resampling': (95.53, 60.11, 85.70, 59.69, 60.81),
    'focal': (98.46, 58.91, 85.99, 60.33, 58.35),
    'ldam_rs': (94.77, 49.96, 81.08, 50.08, 50.57),
    'cb_focal': (95.37, 58.27, 85.25, 58.24, 58.48),
    'crt': (94.68, 60.53, 86.07, 60.92, 60.36),
    'seesaw': (98.09, 59.49, 84.99, 60.59, 59.13),
    'cicl': (97.41, 57.59, 91.69, 58.99, 57.47),
    'balanced_mixup': (96.83, 58.59, 91.13, 60.37, 58.10),
    'cb_wd_max': (97.41, 59.62, 91.42, 60.32, 59.59),
    'fcd': (96.12, 57.28, 85.13, 57.45, 61.91),
    'fs': (95.80, 57.34, 86.41, 58.09, 58.39),
    'cc_sam': (98.84, 61.72, 87.19, 61.60, 63.40),
    'gcl': (98.62, 60.59, 86.26, 61.34, 62.85),
    'lmd': (98.96, 62.99, 92.43, 62.35, 67.27),
}


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


def _isic2019(ratio: int, train: int, val: int, test: int) -> Benchmark:
    column = 2 * (100, 300, 500).index(ratio)
    return _lmd(
        f'isic2019_lt_r{ratio}',
        'isic2019',
        f'lmd_r{ratio}',
        metrics=_AUC_BACC,
        classes=8,
        images={'train': train, 'val': val, 'test': test},
        reported=figures(
            ('macro_auc', 'balanced_accuracy'),
            {method: row[column : column + 2] for method, row in _ISIC2019.items()},
        ),
    )


BENCHMARKS = (
    _isic2019(100, 16170, 2313, 4621),
    _isic2019(300, 14220, 2035, 4064),
    _isic2019(500, 13556, 1939, 3874),
    _lmd(
        'isic_archive_lt',
        'isic_archive',
        'lmd',
        metrics=('balanced_accuracy',),
        classes=14,
        images={'train': 17508, 'val': 2509, 'test': 5003},
        reported=figures(
            ('balanced_accuracy',), {m: (value,) for m, value in _ISIC_ARCHIVE.items()}
        ),
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
        reported=figures(
            ('macro_auc', 'macro_f1', 'quadratic_kappa', 'macro_precision', 'macro_recall'),
            _HYPER_KVASIR,
        ),
    ),
)
