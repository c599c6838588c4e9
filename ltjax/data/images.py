"""Image files to arrays: decoding, resizing, and saying which file is at fault."""

import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ltjax.errors import UserError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def decode(path: pathlib.Path, channels: int = 0) -> np.ndarray:
    """Reads one image file as uint8 [H, W, C].

    Args:
      path: the file.
      channels: 1 (grey) or 3 (RGB); 0 keeps grey files grey and makes everything else RGB.

    Raises:
      UserError: the file is missing, not an image, cut short, or has more than 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(('I', 'F')):
                raise UserError(
                    f'{path} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bits.'
                )
            mode = {1: 'L', 3: 'RGB'}.get(channels) or ('L' if image.mode in ('L', '1') else 'RGB')
            pixels = np.asarray(image.convert(mode))
    except FileNotFoundError:
        raise UserError(
            f'image {path} does not exist: correct the path or remove the entry.'
        ) from None
    except UnidentifiedImageError:
        raise UserError(
            f'{path} is not an image: remove it or convert it to PNG or JPEG.'
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f'image {path} is damaged ({error}): replace or remove it.') from None
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes uint8 [H, W, C] to [size, size, C]: area averaging down, bilinear up."""
    if image.shape[:2] == (size, size):
        return image
    shrinks = min(image.shape[:2]) > size
    resized = cv2.resize(
        image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return resized.reshape(size, size, image.shape[2])


def load(paths: Sequence[pathlib.Path], *, image_size: int = 0, channels: int = 0) -> np.ndarray:
    """Reads image files into one array uint8 [N, H, W, C].

    Args:
      paths: the files.
      image_size: pixels a side to resize to; 0 keeps the size, which must then be the same for all.
      channels: as in `decode`; with 0 all files must agree.

    Raises:
      UserError: a file that cannot be read, or files of mixed sizes or channels.
    """
    images: list[np.ndarray] = []
    for path in paths:
        image = decode(path, channels)
        image = resize(image, image_size) if image_size else image
        if images and image.shape[2] != images[0].shape[2]:
            raise UserError(
                f'{path} has {image.shape[2]} channels and {paths[0]} has {images[0].shape[2]}: '
                'set --config.data.channels=3 (or 1).'
            )
        if images and image.shape != images[0].shape:
            height, width, _ = image.shape
            raise UserError(
                f'{path} is {width}x{height} and {paths[0]} is '
                f'{images[0].shape[1]}x{images[0].shape[0]}: set --config.data.image_size=224 (say).'
            )
        images.append(image)
    return np.stack(images)
