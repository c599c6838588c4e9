"""Ten steps of TDE's training, its direction running, equal NumPy's with gradients by hand."""

import numpy as np

from methods.dynamics.supervised_steps import (
    BATCH,
    COUNTS,
    WIDTH,
    Network,
    assert_same,
    drawn_batches,
    softmax,
    ten_steps,
)

HEADS, SCALE, GAMMA, MOMENTUM = 2, 16.0, 1 / 32, 0.9
KERNEL = 'classifier.kernel'


def head(features, kernel):
    """Returns a head's share of the logits [B, K], and gradient by it -> those by its features and kernel."""
    long, wide = np.linalg.norm(features, axis=1, keepdims=True), np.linalg.norm(kernel, axis=0)
    rows, columns = features / long, kernel / (wide + GAMMA)
    logits = SCALE / HEADS * rows @ columns

    def backward(gradient):
        gradient = SCALE / HEADS * gradient
        by_rows, by_columns = gradient @ columns.T, rows.T @ gradient
        by_features = (by_rows - rows * (by_rows * rows).sum(axis=1, keepdims=True)) / long
        # Of w / (|w| + g): 1 / (|w| + g), less w w^T / (|w| (|w| + g)^2).
        along = (by_columns * kernel).sum(axis=0) / (wide * (wide + GAMMA) ** 2)
        return by_features, by_columns / (wide + GAMMA) - kernel * along

    return logits, backward


def test_ten_steps():
    trained = ten_steps('tde', {})
    names = (KERNEL, 'layer.kernel', 'layer.bias')
    network, losses = Network(trained.before, names), []
    parts = np.split(np.arange(WIDTH), HEADS)
    for images, labels in drawn_batches():
        features, own = network.features(images), np.eye(len(COUNTS))[labels]
        direction = network.arrays['classifier.direction']
        network.arrays['classifier.direction'] = MOMENTUM * direction + features.mean(axis=0)
        heads = [head(features[:, part], network.arrays[KERNEL][part]) for part in parts]
        shares = softmax(sum(logits for logits, _ in heads))
        losses.append(-np.log((shares * own).sum(axis=1)).mean())
        gradients = [backward((shares - own) / BATCH) for _, backward in heads]
        by_features = np.concatenate([gradient for gradient, _ in gradients], axis=1)
        by_kernel = np.concatenate([gradient for _, gradient in gradients])
        network.descend({KERNEL: by_kernel} | network.below(images, by_features))
    np.testing.assert_allclose(trained.losses, losses, rtol=1e-5)
    assert_same(trained.after, network.arrays)
    assert np.abs(trained.after['classifier.direction']).max() > 0.1
