"""Near-duplicates as groups, for sets that do not say which images are of one patient."""

import concurrent.futures
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ltjax.data import near_duplicates
from ltjax.data.reading import images as image_files
from ltjax.errors import UserError


def of_near_duplicates(
    images: Mapping[str, pathlib.Path],
    threads: int,
    pairs: Callable[[np.ndarray], Iterable[np.ndarray]] = near_duplicates.pairs,
) -> dict[str, str]:
    """Groups images that are near-duplicates, directly or by others between.

    Args:
      images: the files by name.
      threads: that decode at the same time.
      pairs: finds them in thumbnails, as `near_duplicates.pairs`.

    Returns:
      By image, the name of the first image of its group. An image that cannot be read is its own group: it is
      reported when the set is written.
    """
    names = list(images)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        made = enumerate(pool.map(_thumbnail, images.values()))
        thumbnails = {at: thumbnail for at, thumbnail in made if thumbnail is not None}
    clusters, read = near_duplicates.Clusters(len(names)), list(thumbnails)
    for some in pairs(np.stack(list(thumbnails.values()))) if read else ():
        for one, other in some.tolist():
            clusters.join(read[one], read[other])
    owners = [names[first] for first in clusters.labels().tolist()]
    largest = Counter(owners).most_common(1)[0][1]
    print(f'{len(names)} images are {len(set(owners))} groups of near-duplicates, up to {largest}')
    return dict(zip(names, owners, strict=True))


def _thumbnail(path: pathlib.Path) -> np.ndarray | None:
    try:
        return near_duplicates.thumbnail(image_files.decode(path, 1))
    except UserError:
        return None
