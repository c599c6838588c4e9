"""A two-dimensional map of test features, to look at."""

from collections.abc import Sequence

import numpy as np


def stratified_subset(labels: np.ndarray, at_most: int, seed: int = 0) -> np.ndarray:
    """Returns sorted indices of at most `at_most` images, every class with the same share.

    A class too small for its share to reach one image still keeps one, if there is room.
    """
    if len(labels) <= at_most:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    chosen = []
    for k in np.unique(labels):
        members = np.flatnonzero(labels == k)
        share = max(1, len(members) * at_most // len(labels))
        chosen.append(rng.permutation(members)[:share])
    indices = np.concatenate(chosen)
    return np.sort(rng.permutation(indices)[:at_most] if len(indices) > at_most else indices)


def mapped_classes(
    labels: np.ndarray, groups: Sequence[Sequence[int]], each: int
) -> list[list[int]]:
    """Returns at most `each` classes of every group, from its whole range of sizes.

    Args:
      labels: [n] classes of the images.
      groups: classes of each group, from the largest to the smallest; those without images are
        passed over.
      each: classes to choose.
    """
    there = set(np.unique(labels).tolist())
    chosen = []
    for classes in groups:
        members = [k for k in classes if k in there]
        places = np.linspace(0, len(members) - 1, min(each, len(members))).round().astype(int)
        chosen.append([members[place] for place in places])
    return chosen


def tsne(features: np.ndarray) -> np.ndarray:
    """Maps features [n, D] to [n, 2] by t-SNE (van der Maaten and Hinton, 2008), deterministically.

    Raises:
      ValueError: there are fewer than ten images or two dimensions, features are not finite, or
        they are all the same; one sentence says which.
    """
    features = np.asarray(features, np.float32)
    if features.ndim != 2 or len(features) < 10 or features.shape[1] < 2:
        raise ValueError(f'a map needs ten images and two dimensions, not {features.shape}')
    if not np.isfinite(features).all():
        raise ValueError('some features are not finite')
    if (features == features[0]).all():
        raise ValueError('all features are the same')
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(features) - 1) / 3)
    model = TSNE(perplexity=perplexity, init='pca', learning_rate='auto', random_state=0)
    # Threads of OpenMP wait busily for one another: on a busy machine 24 points took 18 seconds instead of 0.1.
    with threadpool_limits(1, user_api='openmp'):
        return model.fit_transform(features)
