"""Ten steps of TDE's training, its direction running, equal NumPy's with gradients by hand."""

import numpy as np

from methods.dynamics import steps

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
    batches = steps.drawn_batches(0)
    before, *after = steps.ten_steps('tde', {}, batches)
    network, losses = steps.Network(before.arrays), []
    parts = np.split(np.arange(steps.WIDTH), HEADS)
    for batch in batches:
        images = batch['view']
        features = network.features(images)
        direction = network.arrays['classifier.direction']
        network.arrays['classifier.direction'] = MOMENTUM * direction + features.mean(axis=0)
        heads = [head(features[:, part], network.arrays[KERNEL][part]) for part in parts]
        logits = sum(logits for logits, _ in heads)
        values, by_logits = steps.cross_entropy(logits, batch['label'])
        losses.append(values.mean())
        gradients = [backward(by_logits / steps.BATCH) for _, backward in heads]
        by_features = np.concatenate([gradient for gradient, _ in gradients], axis=1)
        by_kernel = np.concatenate([gradient for _, gradient in gradients])
        network.descend({KERNEL: by_kernel} | network.below(images, by_features))
    steps.same([each.metrics['loss'] for each in after], losses)
    steps.same(after[-1].arrays, network.arrays)
    assert np.abs(after[-1].arrays['classifier.direction']).max() > 0.1
