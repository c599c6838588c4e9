"""What every named data set is: the `data` part of a config. Values only, so that configs import it in no time."""

import copy

from ml_collections import ConfigDict

from ltjax.errors import unknown

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_PIXELS = 89_478_485  # Pillow's own limit

# `format` says who reads it (ltjax.data.reading): an embedded or own npz, a folder of class folders, a CSV of paths.
# `long_tail`: training images a class, from `max_count` down by `ratio`; ratio 0 keeps what is there.
# `split`: fractions held out where the files bring no split, or `folds` of which `fold` is the test (-1: each in turn,
#   results pooled); `seed` chooses it, not the run; `protocol` names a split of a prepared set ('': its only one;
#   'none' draws one).
_DEFAULT = {
    'name': '',
    'format': 'npz',
    'path': '',
    'allow_outside': False,  # whether images may lie outside the folder, or that of the CSV
    # Of a CSV: what its columns are called (label: `one_hot` for a column a class), and, if they hold ids, the folder
    # of the images and what an id lacks of its file's name.
    'columns': {'path': 'path', 'label': 'label', 'split': 'split', 'group': 'group'},
    'images': '',
    'suffix': '',
    'subfolders': 'refuse',  # inside class folders; or they are 'group', 'class', or of no meaning: 'flatten'
    'class_order': '',  # the classes with commas between them; or natural
    'on_damaged': 'stop',  # at images that cannot be read; or 'exclude' them, in excluded.csv
    'on_unlabelled': 'stop',  # at images without a label; or 'exclude'
    'max_pixels': MAX_PIXELS,  # of an image to be decoded
    'image_size': 0,  # pixels a side; 0: as stored
    'channels': 0,  # 1 or 3; 0: as stored
    'interpolation': 'area',  # of images that must be resized; or bilinear, bicubic
    'mean': (0.5,),
    'std': (0.25,),
    'split': {
        'val': 0.1,
        'test': 0.2,
        'seed': 0,
        'folds': 0,
        'fold': 0,
        'protocol': '',
        'allow_leaks': False,  # groups or equal images on two sides of a split that the files bring
    },
    'long_tail': {'max_count': 0, 'ratio': 0},
    'groups': {
        'head': (),
        'medium': (),
        'tail': (),
    },  # classes by name or place in the order; empty: by thirds of the classes
}

_PAPER = {
    'format': 'csv',
    'image_size': 224,
    'channels': 3,
    'mean': IMAGENET_MEAN,
    'std': IMAGENET_STD,
}

_CIFAR = {
    'mean': (0.491, 0.482, 0.447),
    'std': (0.247, 0.243, 0.262),
    'split': {'protocol': 'clean_exp_r100'},
}

# Large photographs: the configs have the papers' networks and schedules for them.
LARGE = (
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
)

DATA_SETS: dict[str, dict] = {
    # Fashion-MNIST, 1000 down to 10 images a class: embedded, not medical.
    'fashion_mnist_lt_mini': {'format': 'embedded', 'mean': (0.286,), 'std': (0.353,)},
    # Red blood cells (Naruenatthanaset et al., 2021) of 11 types, 32 px, split by smear.
    'chula_rbc12': {
        'mean': (0.544, 0.543, 0.554),
        'std': (0.084, 0.109, 0.080),
        'split': {'val': 0.2, 'test': 0.2},
        'long_tail': {'max_count': 1500, 'ratio': 100},
    },
    # As data_prep prepares them, each with the protocol of its paper; or a CSV with the columns path, label and split.
    **{
        name: _PAPER | {'split': {'protocol': protocol}}
        for name, protocol in {
            'isic2018': '7_3',
            'isic2019_lt_r100': 'lmd_r100',
            'isic2019_lt_r300': 'lmd_r300',
            'isic2019_lt_r500': 'lmd_r500',
            'isic_archive_lt': 'lmd',
            'hyper_kvasir': '8_1_1',
            'aptos2019': '80_20',
            'bone_marrow': '80_20',
            'imagenet_lt': 'official',
            'inaturalist2018': 'clean_official',
        }.items()
    },
    # These have no validation images of their own: a tenth of the training images is held out.
    'cifar10_lt': _CIFAR,
    'cifar100_lt': _CIFAR,
    'fashion_mnist_lt': {
        'mean': (0.286,),
        'std': (0.353,),
        'split': {'protocol': 'clean_hard_tail_r100'},
    },
    'medmnist': {'split': {'protocol': 'official'}},
    # One's own.
    'npz': {},
    'folder': {'format': 'folder'},
    'csv': {'format': 'csv'},
}


def get(name: str) -> ConfigDict:
    """Returns the `data` config of the set `name`.

    Raises:
      UserError: no set has that name.
    """
    if name not in DATA_SETS:
        raise unknown('data set', name, DATA_SETS)
    config = ConfigDict(copy.deepcopy(_DEFAULT) | {'name': name})
    config.update(copy.deepcopy(DATA_SETS[name]))
    return config
