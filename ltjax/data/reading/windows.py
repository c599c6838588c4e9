"""Windows: which of the values of an image with more than 8 bits a channel become black, and which white.

What lies between becomes grey in proportion, as the linear window of DICOM (PS3.3, C.11.2.1.3.2, LINEAR_EXACT).
"""

import re
from typing import NamedTuple

import numpy as np

from ltjax.errors import UserError

# In place of two numbers: what a DICOM file says itself.
FILE = 'file'
_NUMBERS = re.compile(r'\s*(-?[\d.]+(?:e\d+)?)\s*,\s*(-?[\d.]+(?:e\d+)?)\s*', re.IGNORECASE)


class Window(NamedTuple):
    """Values up to `low` become black, from `high` white."""

    low: float
    high: float

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Returns uint8 of values of any number type and shape."""
        share = (values.astype(np.float64) - self.low) / (self.high - self.low)
        return np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)


def parse(text: str) -> Window | None:
    """Returns the window of 'LOW,HIGH'; None of '' and 'file'.

    Raises:
      UserError: the text is none of them, or LOW is not below HIGH.
    """
    if text in ('', FILE):
        return None
    found = _NUMBERS.fullmatch(text)
    try:
        window = Window(*map(float, found.groups())) if found else None
    except ValueError:
        window = None
    if window is None or not window.low < window.high:
        raise UserError(
            f"window is {text!r}: give two values, the lower one first, such as -1000,400; or '{FILE}' for those of "
            'DICOM files.'
        )
    return window
