"""Augmentations that run on the device, inside the training step.

A list of operations turns into one function of (key, images). Each image draws its own numbers
from the key and from its position in the batch, so a view depends neither on the other images nor
on how the batch is spread over devices. Geometry acts first and photometry second, each in the
order of the list; geometry interpolates once at most (see `geometry.resample`). Values are not
rounded back to 8 bits between operations, as they are in libraries that work on the host.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import errors
from ltjax.data.augment import geometry
from ltjax.data.augment.colour import ColorJitter, Erasing, GaussianBlur, Greyscale, Sharpness
from ltjax.data.augment.crops import ResizedCrop
from ltjax.data.augment.distortion import Distort
from ltjax.data.augment.geometry import (
    Affine,
    Geometric,
    HorizontalFlip,
    Op,
    Shift,
    VerticalFlip,
)
from ltjax.data.augment.photometry import (
    BrightnessContrast,
    GridDropout,
    OneOfBlur,
    Photometric,
    RGBShift,
)

__all__ = [
    'VIEWS',
    'Affine',
    'BrightnessContrast',
    'ColorJitter',
    'Distort',
    'Erasing',
    'GaussianBlur',
    'Geometric',
    'Greyscale',
    'GridDropout',
    'HorizontalFlip',
    'OneOfBlur',
    'Op',
    'Photometric',
    'RGBShift',
    'ResizedCrop',
    'Sharpness',
    'Shift',
    'VerticalFlip',
    'view',
]

VIEWS: Mapping[str, tuple[Op, ...]] = MappingProxyType(
    {
        'none': (),
        # The two lists of LMD's code, for lesions and endoscopy at 224 pixels; what it does not
        # set has albumentations' defaults. There the blur precedes the geometry.
        'lmd_weak': (HorizontalFlip(), VerticalFlip()),
        'lmd_strong': (
            HorizontalFlip(),
            VerticalFlip(),
            Affine(degrees=45, translate=0.0625, scale=0.2, p=0.5),
            Distort(grid=1, elastic=1, optical=1, p=0.7),
            OneOfBlur(motion=0.2, median=0.1, box=0.1, motion_size=7, p=0.5),
            RGBShift(15, p=0.5),
            BrightnessContrast(0.2, 0.2, p=0.5),
            GridDropout(ratio=0.5, p=0.2),
        ),
        'flip': (HorizontalFlip(),),
        # AdUni's code; in the text "random affine transformation, horizontal and vertical flip and color jittering".
        'aduni': (
            Affine(degrees=180, scale=0.2, black=True, p=1.0),
            HorizontalFlip(),
            VerticalFlip(),
            ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1),
        ),
        # ALPA's code.
        'alpa': (HorizontalFlip(), Affine(degrees=15, black=True, p=1.0), Sharpness(), Erasing()),
        # ICCL: CIFAR-LT, iNaturalist 2018 and ImageNet-LT, the last with Kang et al.'s colours.
        'cifar': (Shift(4, black=True, p=1.0), HorizontalFlip()),
        'crop_flip': (ResizedCrop(), HorizontalFlip()),
        'crop_flip_jitter': (
            ResizedCrop(),
            HorizontalFlip(),
            ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4),
        ),
        # MoCo v2 (Chen et al., 2020), which ProCo takes over.
        'moco_v2': (
            ResizedCrop(scale=(0.2, 1.0)),
            HorizontalFlip(),
            ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8),
            Greyscale(p=0.2),
            GaussianBlur(p=0.5),
        ),
        # For small pictures of things that have an up, such as clothes.
        'upright_weak': (HorizontalFlip(), Shift(2, p=1.0)),
        'upright_strong': (
            HorizontalFlip(),
            Affine(degrees=15, translate=0.08, scale=0.1, p=0.8),
            OneOfBlur(motion=1, median=0, box=1, p=0.2),
            BrightnessContrast(0.2, 0.2, p=0.5),
            GridDropout(ratio=0.5, units=5, random_offset=True, p=0.2),
        ),
        # For small pictures of single cells, which lie in any direction.
        'cell_weak': (HorizontalFlip(), VerticalFlip()),
        'cell_moderate': (
            HorizontalFlip(),
            VerticalFlip(),
            Affine(degrees=180, translate=0.05, scale=0.1, p=0.5),
            RGBShift(10, p=0.5),
            BrightnessContrast(0.1, 0.1, p=0.5),
        ),
        'cell_strong': (
            HorizontalFlip(),
            VerticalFlip(),
            Affine(degrees=180, translate=0.05, scale=0.1, p=0.8),
            OneOfBlur(motion=1, median=0, box=1, p=0.2),
            RGBShift(10, p=0.5),
            BrightnessContrast(0.2, 0.2, p=0.5),
            GridDropout(ratio=0.5, units=5, random_offset=True, p=0.2),
        ),
    }
)


def view(
    name: str | Sequence[Op], *, mean: Sequence[float], std: Sequence[float]
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns the function that draws one augmented, normalised view of each image.

    Args:
      name: a name in `VIEWS`, or operations.
      mean: of the normalisation, for values in [0, 1]; of length 1 or C.
      std: of the normalisation, likewise.

    Returns:
      A pure function (key, images) -> views, fit for jit: images are uint8 [B, H, W, C] with C 1
      or 3, views are float32 [B, H, W, C], (augmented / 255 - mean) / std. View i depends on the
      key, on i and on image i alone (given JAX's default generator, threefry). It raises
      ValueError for images of another dtype or shape.

    Raises:
      ltjax.errors.UserError: there is no such name.
      ValueError: a geometric operation follows a `Distort`, or mean and std do not fit.
    """
    if isinstance(name, str):
        if name not in VIEWS:
            raise errors.unknown('augmentation', name, VIEWS)
        ops = VIEWS[name]
    else:
        ops = tuple(name)
    geometric = tuple(op for op in ops if isinstance(op, Geometric))
    photometric = tuple(op for op in ops if isinstance(op, Photometric))
    if any(isinstance(op, Distort) for op in geometric[:-1]):
        raise ValueError('Distort must be the last geometric operation of its list.')
    centre, spread = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    if centre.ndim != 1 or spread.shape != centre.shape or not np.all(spread > 0.0):
        raise ValueError(f'mean and std must be of one length, std positive: {mean}, {std}.')
    moving = sum(op.draws for op in geometric)
    draws = sum(op.draws for op in ops)

    def one_view(key: jax.Array, index: jax.Array, image: jax.Array) -> jax.Array:
        # One call draws all that an image needs: a call for each operation costs more than
        # the operation on small images.
        u = jax.random.uniform(jax.random.fold_in(key, index), (draws,), jnp.float32)
        result = geometry.resample(image, u[:moving], geometric) / 255.0
        start = moving
        for op in photometric:
            result = op.apply(u[start : start + op.draws], result)
            start += op.draws
        return (result - centre[None, None, :]) / spread[None, None, :]

    def views(key: jax.Array, images: jax.Array) -> jax.Array:
        if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != jnp.uint8:
            raise ValueError(
                f'images must be uint8 [B, H, W, 1 or 3], not {images.dtype} {images.shape}.'
            )
        if len(centre) not in (1, images.shape[-1]):
            raise ValueError(f'{len(centre)} means do not fit {images.shape[-1]} channels.')
        return jax.vmap(one_view, in_axes=(None, 0, 0))(key, jnp.arange(len(images)), images)

    return views
