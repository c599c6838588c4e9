"""DICOM files as images of 8 bits, by pydicom (the extra `dicom`)."""

import pathlib
from typing import Any

import numpy as np

from ltjax.data.reading import windows
from ltjax.errors import UserError


def decode(
    path: pathlib.Path, window: str = '', frame: int = -1, limit: int | None = None
) -> np.ndarray:
    """Reads a DICOM file as uint8 [H, W] or [H, W, 3], as a viewer shows it.

    Stored values become those of the modality (Hounsfield units, say) by the file's rescale or table; then the window
    makes them grey. MONOCHROME1 is inverted, YBR becomes RGB.

    Args:
      path: the file.
      window: 'LOW,HIGH' in values of the modality; 'file': the first window or table that the file has; '': there is
        none, and grey files of more than 8 bits are refused.
      frame: which of several, from 0; -1: files of several are refused.
      limit: of pixels of a frame.

    Raises:
      UserError: pydicom is missing; the file is damaged, has no pixels, no such frame, more than 8 bits a channel and
        no window, more pixels than the limit, or is compressed in a way that pydicom cannot undo.
    """
    try:
        import pydicom
        from pydicom.pixels.utils import pixel_array
    except ImportError:
        raise UserError(
            f"{path} is DICOM, which needs pydicom: pip install 'ltjax[dicom]'."
        ) from None
    try:
        file = pydicom.dcmread(path)
    except Exception as error:  # at damaged files pydicom raises nearly everything
        raise _damaged(path, error) from None
    if 'PixelData' not in file:
        raise UserError(f'{path} is DICOM without pixels (a report or a plan?): remove it.')
    frames = int(file.get('NumberOfFrames', 1) or 1)
    if frames > 1 and not 0 <= frame < frames:
        raise UserError(
            f'{path} holds {frames} frames: save the one to use as an image of its own, or choose it with '
            f'--config.data.frame=0 to {frames - 1}.'
        )
    if limit is not None and int(file.Rows) * int(file.Columns) > limit:
        raise UserError(f'{path} has more than {limit} pixels: raise --config.data.max_pixels.')
    try:
        stored = pixel_array(file, index=frame if frames > 1 else 0)
        if stored.ndim == 3:
            return _colour(path, stored)
        return _grey(path, file, stored, window)
    except UserError:
        raise
    except Exception as error:
        raise _damaged(path, error) from None


def _colour(path: pathlib.Path, stored: np.ndarray) -> np.ndarray:
    if stored.dtype != np.uint8:
        raise UserError(f'{path} has colours of more than 8 bits a channel: convert it to 8 bits.')
    return stored


def _grey(path: pathlib.Path, file: Any, stored: np.ndarray, window: str) -> np.ndarray:
    from pydicom.pixels.processing import apply_modality_lut

    given = windows.parse(window)
    if given is not None:
        shown = given.apply(apply_modality_lut(stored, file))
    elif window == windows.FILE:
        shown = _own_window(path, file, apply_modality_lut(stored, file))
    elif int(file.BitsStored) <= 8 and not int(file.PixelRepresentation):
        shown = stored.astype(np.uint8)
    else:
        raise UserError(
            f'{path} has {file.BitsStored} bits a value: say which values become black and white, '
            '--config.data.window=LOW,HIGH, or file for the window that is in it.'
        )
    return 255 - shown if file.PhotometricInterpretation == 'MONOCHROME1' else shown


def _own_window(path: pathlib.Path, file: Any, values: np.ndarray) -> np.ndarray:
    """Returns uint8 by the file's first table or window (PS3.3, C.11.2.1.2)."""
    from pydicom.pixels.processing import apply_voi

    if 'VOILUTSequence' in file:
        bits = int(file.VOILUTSequence[0].LUTDescriptor[2])
        return windows.Window(0, 2**bits - 1).apply(apply_voi(values, file))
    centre, width = (_first(file.get(name)) for name in ('WindowCenter', 'WindowWidth'))
    if centre is None or not width:
        raise UserError(f'{path} has no window of its own: give --config.data.window=LOW,HIGH.')
    kind = file.get('VOILUTFunction', 'LINEAR')
    if kind == 'SIGMOID':
        curve = 1 / (1 + np.exp(-4 * (values - centre) / width))
        return windows.Window(0, 1).apply(curve)
    # LINEAR counts whole values, of which the window's ends are two.
    exact = kind == 'LINEAR_EXACT'
    middle, reach = (centre, width / 2) if exact else (centre - 0.5, max(width - 1, 1e-6) / 2)
    return windows.Window(middle - reach, middle + reach).apply(values)


def _first(value: Any) -> float | None:
    """Returns the first of several values of an element, None if it is not there."""
    if value is None or value == '':
        return None
    return float(value[0] if hasattr(value, '__getitem__') else value)


def _damaged(path: pathlib.Path, error: Exception) -> UserError:
    reason = ' '.join(str(error).split()) or type(error).__name__
    return UserError(f'{path} cannot be read as DICOM ({reason}): replace or remove it.')
