"""Sums over the images of resamples, by class or by bin, and the shares that come of them.

What an image counts for is the same in every resample: it is put into a sparse table once, and a resample
is a product of the table with the weights. The sums are of integers, exact in whatever order they were added up.
"""

import numpy as np
from scipy import sparse


def table(
    rows: np.ndarray,
    images: np.ndarray,
    shape: tuple[int, int],
    values: np.ndarray | None = None,
) -> sparse.csr_array:
    """Returns a sparse table of what images count for.

    Args:
      rows: [m] int rows.
      images: [m] int images, each at most once in a row.
      shape: number of rows and of images.
      values: [m] int, at least zero; without, all are one.
    """
    if values is None:
        values = np.ones(len(rows), np.uint8)
    narrow = values.astype(np.min_scalar_type(int(values.max(initial=1))))
    return sparse.csr_array((narrow, (rows, images)), shape)


def add_up(weights: np.ndarray, counted: sparse.csr_array) -> np.ndarray:
    """Returns [r, rows] int64: the rows of a table [rows, n] summed over the images of each resample.

    Args:
      weights: [r, n] int times each image is drawn.
      counted: from `table`.
    """
    most = int(weights.sum(1).max(initial=0)) * int(counted.data.max(initial=1))
    # The narrowest integers that hold the sums are the fastest to add; a row is an image.
    by_image = np.ascontiguousarray(weights.T, np.min_scalar_type(most))
    return np.ascontiguousarray((counted @ by_image).T, np.int64)


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divides `part` by `whole`, and gives NaN where the whole is zero."""
    empty = whole == 0
    return np.where(empty, np.nan, part / np.where(empty, 1, whole))


def mean_of_defined(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns the mean of those values along an axis that are not NaN; NaN where all are."""
    defined = ~np.isnan(values)
    return share(np.where(defined, values, 0.0).sum(axis), defined.sum(axis))
