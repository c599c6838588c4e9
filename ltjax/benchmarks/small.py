"""Small sets, and one's own data: settings that were chosen on validation data."""

from typing import Any

from ltjax.benchmarks.benchmark import Benchmark
from ltjax.engine.settings import Optimizer

_SGD = Optimizer(name='sgd', learning_rate=0.1, schedule='cosine', momentum=0.9, weight_decay=5e-4)


def _own(name: str, **changes: Any) -> Benchmark:
    values: dict[str, Any] = {
        'model': {'name': 'small_cnn'},
        'epochs': 40,
        'batch_size': 128,
        'optimizer': _SGD,
        'view': 'lmd_weak',
        'weak_view': 'lmd_weak',
    }
    return Benchmark(name=name, **values | changes)


BENCHMARKS = (
    _own(
        'fashion_mnist_lt_mini',
        view='upright_weak',
        weak_view='upright_weak',
        classes=10,
        images={'train': 2478, 'val': 500, 'test': 2000},
    ),
    _own(
        'chula_rbc12',
        prepare='chula_rbc12',
        epochs=25,
        view='cell_moderate',
        weak_view='cell_weak',
        classes=11,
    ),
    # HAM10000 at 48 px, split by lesion: data_prep.isic2018 --size 48, or an npz that has the lesion
    # of each image as its group.
    _own('isic2018_48', prepare='isic2018 --size 48', data={'split.protocol': 'none'}, classes=7),
    _own('fashion_mnist_lt', prepare='fashion_mnist_lt', classes=10),
    _own('medmnist', prepare='medmnist NAME'),
    _own('tfds'),
    _own('npz'),
    _own('folder'),
    _own('csv'),
    _own('prepared'),
)
