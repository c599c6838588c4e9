"""Image files to arrays: finding, decoding, resizing, and saying which file is at fault."""

import contextlib
import hashlib
import os
import pathlib
import re
import unicodedata
import warnings
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ltjax.data.reading import dicom, windows
from ltjax.data.settings import INTERPOLATIONS
from ltjax.errors import UserError, unknown

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')

# How the files begin that are images whatever their suffix, if they have one: .jfif, .pgm, none.
_BEGINNINGS = re.compile(
    rb'\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP|'
    rb'P[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s+\d|\0\0\0\x0cjP  |\xff\x4f\xff\x51|BM.{4}\0\0\0\0',
    re.DOTALL,
)

_HEIC = re.compile(rb'....ftyp(?:hei[cxms]|hev[cmx]|mif1|msf1)', re.DOTALL)

# What Pillow may try: the others are no photographs, or start an interpreter (EPS).
_FORMATS = ('BMP', 'GIF', 'JPEG', 'JPEG2000', 'PNG', 'PPM', 'TIFF', 'WEBP')
_GREY = ('1', 'L', 'LA', 'La')
_COLOUR = ('P', 'PA', 'RGB', 'RGBA', 'RGBa', 'RGBX', 'CMYK', 'YCbCr')
_SIXTEEN_BITS = re.compile(r'(?!BGR).*;16')  # BGR;16 is 16 bits a pixel


def other_kind(path: pathlib.Path, *, dicom: bool = False) -> str:
    """Returns '' for what should be read as an image, by its suffix or how it begins; else what it is.

    That is its suffix in small letters, its whole name if it has none, or 'DICOM', unless these are images (`dicom`).
    Hidden files are no images: macOS leaves a `._NAME.jpg` beside every NAME.jpg that it copies.
    """
    if path.name.startswith('.'):
        return '._*' if path.name.startswith('._') else path.name
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return ''
    beginning = _beginning(path)
    if _BEGINNINGS.match(beginning) or _HEIC.match(beginning):
        return ''
    if beginning[128:132] == b'DICM':
        return '' if dicom else 'DICOM'
    return suffix or path.name


def _beginning(path: pathlib.Path) -> bytes:
    """Returns how a file begins, as far as needed to know what it is; b'' if it cannot be read."""
    if path.is_file():  # a pipe would be waited for
        with contextlib.suppress(OSError), path.open('rb') as file:
            return file.read(132)
    return b''


def digest(pixels: np.ndarray) -> str:
    """Returns what two images share if and only if they are equal, of uint8 [H, W, C]; see `shows_something`."""
    made = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    made.update(np.ascontiguousarray(pixels).data)
    some = pixels[::32, ::32]  # nearly always they differ already
    shows = some.min() != some.max() or pixels.min() != pixels.max()
    return f'{"" if shows else "blank "}{made.hexdigest()}'


def shows_something(digests: np.ndarray) -> np.ndarray:
    """Tells, bool [N], which digests are of images that are not of one colour, and known; such may be duplicates."""
    return np.array(
        [bool(each) and not each.startswith('blank') for each in digests.tolist()], bool
    )


def file_digest(path: pathlib.Path) -> str:
    """Returns a digest of a file's bytes."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def decode(path: pathlib.Path, channels: int = 0, window: str = '', frame: int = -1) -> np.ndarray:
    """Reads one image file as uint8 [H, W, C], as a viewer would show it.

    The content decides, not the suffix. The image is turned upright where its EXIF data say how;
    damaged EXIF data are passed over. What is transparent becomes white. Palettes, CMYK and YCbCr
    become RGB, without regard to colour profiles.

    Args:
      path: the file.
      channels: 1 (grey) or 3 (RGB); 0 keeps grey files grey and makes everything else RGB.
      window: of grey files of more than 8 bits and of DICOM, see `windows` and `dicom.decode`.
      frame: of files of several frames or pages, from 0; -1: they are refused.

    Raises:
      UserError: the file is missing, unreadable, not an image or cut short; has more than 8 bits a
        channel and no window is given, several frames or pages and none is chosen, or more pixels than
        `pixel_limit` allows (89 million unless set otherwise), which is found out before they are decoded.
    """
    if path.is_fifo():
        raise UserError(f'{path} is a pipe and no file: remove it.')  # it would be waited for
    beginning = _beginning(path)
    if beginning[128:132] == b'DICM':
        return _in_channels(dicom.decode(path, window, frame, Image.MAX_IMAGE_PIXELS), channels)
    if _HEIC.match(beginning):
        raise UserError(
            f'{path} is HEIC, which is not read: convert it to JPEG (heif-convert, or the export of its viewer).'
        )
    return _by_pillow(path, channels, window, frame)


def _by_pillow(path: pathlib.Path, channels: int, window: str, frame: int) -> np.ndarray:
    """Returns what `decode` does, of what Pillow reads."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _choose(path, image, frame)
            return _of_pillow(image, channels, _check(path, image, window))
    except UserError:
        raise
    except FileNotFoundError:
        remedy = 'correct the path or remove the entry'
        if not path.suffix:
            remedy += (
                ', or say where ids belong: --config.data.images=FOLDER --config.data.suffix=.jpg'
            )
        raise UserError(f'image {path} does not exist: {remedy}.') from None
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


def _of_pillow(image: Image.Image, channels: int, window: windows.Window | None) -> np.ndarray:
    """Returns uint8 [H, W, C] of an opened image, upright, on white; by a window if it has more than 8 bits."""
    image.load()
    with contextlib.suppress(Exception):  # Pillow raises many things at damaged EXIF data
        ImageOps.exif_transpose(image, in_place=True)
    if window is not None:
        return _in_channels(window.apply(np.asarray(image)), channels)
    grey = channels == 1 or (channels == 0 and image.mode in _GREY)
    pixels = np.asarray(_opaque(image).convert('L' if grey else 'RGB'))
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _in_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Returns uint8 [H, W, C] of [H, W] or [H, W, 3], grey or RGB as `decode` is asked."""
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], channels or 1, axis=2)
    if channels == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert('L'))[:, :, None]
    return pixels


def _choose(path: pathlib.Path, image: Image.Image, frame: int) -> None:
    """Goes to the frame that is asked for; refuses an image of several where none is."""
    # A camera's JPEG may carry a preview or a second view behind the photograph (format MPO).
    frames = 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)
    if frames == 1:
        return
    if not 0 <= frame < frames:
        raise UserError(
            f'{path} holds {frames} frames or pages: save the one to use as an image of its own, or choose it with '
            f'--config.data.frame=0 to {frames - 1}.'
        )
    image.seek(frame)


def _check(path: pathlib.Path, image: Image.Image, window: str) -> windows.Window | None:
    """Refuses an opened image, of which only the header was read, that cannot become uint8 faithfully.

    Returns:
      The window by which it can, if it has more than 8 bits and is grey; else None.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise _too_large(path)
    tiles = getattr(image, 'tile', None)
    raw = re.findall(r"'([^']*)'", str(tiles[0][3:])) if tiles else []
    grey = image.mode.startswith(('I', 'F'))
    if grey and (found := windows.parse(window)) is not None:
        return found
    if grey and window:
        raise UserError(
            f'{path} is no DICOM and has no window of its own: give --config.data.window=LOW,HIGH.'
        )
    if grey or any(map(_SIXTEEN_BITS.match, raw)):
        remedy = ', or say which values become black and white: --config.data.window=LOW,HIGH'
        raise UserError(
            f'{path} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bits{remedy if grey else ""}.'
        )
    if image.mode not in _GREY + _COLOUR:
        raise UserError(f'{path} has colours of mode {image.mode}: convert it to RGB.')
    return None


def _too_large(path: pathlib.Path) -> UserError:
    return UserError(
        f'{path} has more than {Image.MAX_IMAGE_PIXELS} pixels: scale it down, or raise '
        '--config.data.max_pixels (audit: --max-pixels) if you trust it.'
    )


@contextlib.contextmanager
def pixel_limit(count: int) -> Iterator[None]:
    """Within it, images of more than `count` pixels are refused, in all threads.

    Raises:
      UserError: `count` is below 1.
    """
    if count < 1:
        raise UserError(f'max_pixels is {count}: use 1 or more.')
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, count
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


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
      UserError: it does (by `..`, as an absolute path, through a symbolic link) and may not; or it is a whole path and
        not there. Backslashes are taken for slashes, where there is no such file.
    """
    file = _existing(root, str(path))
    whole = pathlib.PureWindowsPath(path)
    # A file of a folder that is here is simply missing.
    foreign = bool(whole.drive) or (whole.root and not file.parent.is_dir())
    if foreign and not os.path.lexists(file):
        raise UserError(
            f'{str(path)!r} is a path of another machine: say which folder it is here, '
            '--config.data.images=FOLDER.'
        )
    if '\\' in str(path) and not os.path.lexists(file):  # as Windows writes paths
        file = _existing(root, str(path).replace('\\', '/'))
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


def _existing(root: pathlib.Path, path: str) -> pathlib.Path:
    """Returns the file of that path, also where the disk has its name in another form of Unicode."""
    file = root / path
    if path.isascii() or '\0' in path or os.path.lexists(file):
        return file
    for form in ('NFC', 'NFD'):
        other = root / unicodedata.normalize(form, path)
        if os.path.lexists(other):
            return other
    found = root  # the parts may be of different forms
    for part in pathlib.PurePath(path).parts:
        names = os.listdir(found) if found.is_dir() else ()
        wanted = unicodedata.normalize('NFC', part)
        found /= next((n for n in names if unicodedata.normalize('NFC', n) == wanted), part)
    return found


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
