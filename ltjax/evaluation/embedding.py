"""A two-dimensional map of test features, to look at."""

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

    perplexity = min(30.0, (len(features) - 1) / 3)
    model = TSNE(perplexity=perplexity, init='pca', learning_rate='auto', random_state=0)
    return model.fit_transform(features)
