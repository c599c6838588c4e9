"""What every named data set is, beside the defaults of `settings.Data`. Values only: imports in no time."""

import copy
import dataclasses
from typing import Any

from ml_collections import ConfigDict

from ltjax.data.settings import Data
from ltjax.errors import unknown

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_PHOTOGRAPHS = {'format': 'csv', 'channels': 3, 'mean': IMAGENET_MEAN, 'std': IMAGENET_STD}
_CIFAR = {'mean': (0.491, 0.482, 0.447), 'std': (0.247, 0.243, 0.262)}

DATA_SETS: dict[str, dict[str, Any]] = {
    # Fashion-MNIST, 1000 down to 10 images a class: embedded, not medical.
    'fashion_mnist_lt_mini': {'format': 'embedded', 'mean': (0.286,), 'std': (0.353,)},
    # Red blood cells (Naruenatthanaset et al., 2021) of 11 types, 32 px, split by smear.
    'chula_rbc12': {
        'mean': (0.544, 0.543, 0.554),
        'std': (0.084, 0.109, 0.080),
        'split': {'val': 0.2, 'test': 0.2},
        'long_tail': {'max_count': 1500, 'ratio': 100},
    },
    # As data_prep prepares them; or a CSV with the columns path, label and split.
    **dict.fromkeys(
        (
            'isic2018',
            'isic2019_lt_r100',
            'isic2019_lt_r300',
            'isic2019_lt_r500',
            'isic_archive_lt',
            'hyper_kvasir',
            'aptos2019',
            'bone_marrow',
            'imagenet_lt',
            'inaturalist2018',
        ),
        _PHOTOGRAPHS,
    ),
    **{f'cifar{classes}_lt_r{ratio}': _CIFAR for classes in (10, 100) for ratio in (100, 50, 10)},
    # HAM10000 at 48 px; the whole set's mean and standard deviation.
    'isic2018_48': {
        'image_size': 48,
        'channels': 3,
        'mean': (0.765, 0.541, 0.564),
        'std': (0.137, 0.157, 0.175),
    },
    # It has no validation images of its own: a tenth of the training images is held out.
    'fashion_mnist_lt': {
        'mean': (0.286,),
        'std': (0.353,),
        'split': {'protocol': 'clean_hard_tail_r100'},
    },
    'medmnist': {'split': {'protocol': 'official'}},
    # Of the catalogue of tensorflow-datasets, prepared in ArrayRecord files.
    'tfds': {'format': 'tfds'},
    # One's own.
    'npz': {},
    'folder': {'format': 'folder'},
    'csv': {'format': 'csv'},
    'prepared': {'format': 'prepared'},
}


def get(name: str) -> ConfigDict:
    """Returns the `data` config of the set `name`.

    Raises:
      UserError: no set has that name.
    """
    if name not in DATA_SETS:
        raise unknown('data set', name, DATA_SETS)
    config = ConfigDict(dataclasses.asdict(Data(name=name)))
    config.update(copy.deepcopy(DATA_SETS[name]))
    return config
