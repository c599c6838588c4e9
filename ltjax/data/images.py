"""Image files to arrays: decoding, resizing, and saying which file is at fault."""

import contextlib
import os
import pathlib
import re
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ltjax.errors import UserError, unknown

INTERPOLATIONS = ('area', 'bilinear', 'bicubic')
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')

# What Pillow may try: the others are no photographs, or start an interpreter (EPS).
_FORMATS = ('BMP', 'GIF', 'JPEG', 'JPEG2000', 'PNG', 'PPM', 'TIFF', 'WEBP')
_GREY = ('1', 'L', 'LA', 'La')
_COLOUR = ('P', 'PA', 'RGB', 'RGBA', 'RGBa', 'RGBX', 'CMYK', 'YCbCr')
_SIXTEEN_BITS = re.compile(r'(?!BGR).*;16')  # BGR;16 is 16 bits a pixel


def decode(path: pathlib.Path, channels: int = 0) -> np.ndarray:
    """Reads one image file as uint8 [H, W, C], as a viewer would show it.

    The content decides, not the suffix. The image is turned upright where its EXIF data say how;
    damaged EXIF data are passed over. What is transparent becomes white. Palettes, CMYK and YCbCr
    become RGB, without regard to colour profiles.

    Args:
      path: the file.
      channels: 1 (grey) or 3 (RGB); 0 keeps grey files grey and makes everything else RGB.

    Raises:
      UserError: the file is missing, unreadable, not an image or cut short; has more than 8 bits a
        channel, several frames or pages, or more pixels than `PIL.Image.MAX_IMAGE_PIXELS`
        (89 million unless set otherwise), which is found out before they are decoded.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _check(path, image)
            image.load()
            with contextlib.suppress(Exception):  # Pillow raises many things at damaged EXIF data
                ImageOps.exif_transpose(image, in_place=True)
            grey = channels == 1 or (channels == 0 and image.mode in _GREY)
            pixels = np.asarray(_opaque(image).convert('L' if grey else 'RGB'))
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(
            f'image {path} does not exist: correct the path or remove the entry.'
        ) from None
    except UnidentifiedImageError:
        empty = ' (it is empty)' if path.stat().st_size == 0 else ''
        raise UserError(
            f'{path} is not an image{empty}: remove it or convert it to PNG or JPEG.'
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(path) from None
    except Exception as error:  # at damaged files Pillow raises nearly everything
        if isinstance(error, OSError) and error.strerror:
            raise UserError(
                f'image {path} cannot be read ({error.strerror}): replace or remove it.'
            ) from None
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UserError(f'image {path} is damaged ({reason}): replace or remove it.') from None
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _check(path: pathlib.Path, image: Image.Image) -> None:
    """Refuses an opened image, of which only the header was read, that cannot become uint8 faithfully."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise _too_large(path)
    tiles = getattr(image, 'tile', None)
    raw = re.findall(r"'([^']*)'", str(tiles[0][3:])) if tiles else []
    if image.mode.startswith(('I', 'F')) or any(map(_SIXTEEN_BITS.match, raw)):
        raise UserError(
            f'{path} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bits.'
        )
    if image.mode not in _GREY + _COLOUR:
        raise UserError(f'{path} has colours of mode {image.mode}: convert it to RGB.')
    # A camera's JPEG may carry a preview or a second view behind the photograph (format MPO).
    frames = 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)
    if frames > 1:
        raise UserError(
            f'{path} holds {frames} frames or pages: save the one to use as an image of its own.'
        )


def _too_large(path: pathlib.Path) -> UserError:
    return UserError(
        f'{path} has more than {Image.MAX_IMAGE_PIXELS} pixels: scale it down, or raise '
        'PIL.Image.MAX_IMAGE_PIXELS if you trust it.'
    )


def _opaque(image: Image.Image) -> Image.Image:
    """Returns an image without transparency, which is laid over white."""
    if not image.has_transparency_data:
        return image
    grey = image.mode in _GREY
    layer = image.convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    return Image.alpha_composite(white, layer).convert('L' if grey else 'RGB')


def inside(
    root: pathlib.Path, path: str | pathlib.Path, *, allow_outside: bool = False
) -> pathlib.Path:
    """Returns the file `path`, relative to `root`, which must not lead out of it.

    Raises:
      UserError: it does (by `..`, as an absolute path, through a symbolic link) and may not.
    """
    file = root / path
    try:
        leaves = not pathlib.Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root))
    except ValueError as error:
        raise UserError(f'{str(path)!r} is no path ({error}): correct it.') from None
    if leaves and not allow_outside:
        raise UserError(
            f'{file} leads out of {root}: move the file in there, or allow it '
            '(--config.data.allow_outside=True).'
        )
    return file


def resize(image: np.ndarray, size: int, interpolation: str = 'area') -> np.ndarray:
    """Resizes uint8 [H, W, C] to [size, size, C].

    Args:
      image: the image.
      size: pixels a side.
      interpolation: 'area' (area averaging down, bilinear up), or 'bilinear' or 'bicubic' as Pillow
        does them, whose filters grow when they shrink an image.

    Raises:
      UserError: there is no such interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        raise unknown('interpolation', interpolation, INTERPOLATIONS)
    if image.shape[:2] == (size, size):
        return image
    if interpolation != 'area':
        filter_ = Image.Resampling[interpolation.upper()]
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        return np.asarray(picture.resize((size, size), filter_)).reshape(size, size, -1)
    shrinks = min(image.shape[:2]) > size
    resized = cv2.resize(
        image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return resized.reshape(size, size, image.shape[2])


def load(
    paths: Sequence[pathlib.Path],
    *,
    image_size: int = 0,
    interpolation: str = 'area',
    channels: int = 0,
) -> np.ndarray:
    """Reads image files into one array uint8 [N, H, W, C].

    Args:
      paths: the files.
      image_size: pixels a side to resize to; 0 keeps the size, which must then be the same for all.
      interpolation: as in `resize`.
      channels: as in `decode`; with 0 all files must agree.

    Raises:
      UserError: a file that cannot be read, or files of mixed sizes or channels.
    """
    images: list[np.ndarray] = []
    for path in paths:
        image = decode(path, channels)
        image = resize(image, image_size, interpolation) if image_size else image
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
