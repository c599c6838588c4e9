"""Ten steps of the seesaw loss, its counts running, equal NumPy's with gradients by hand."""

import numpy as np

from methods.dynamics import steps

P, Q, EPS = 0.8, 2.0, 0.01


def test_ten_steps():
    batches = steps.drawn_batches(0)
    before, *after = steps.ten_steps('seesaw', {}, batches)
    network, losses = steps.Network(before.arrays), []
    seen = np.zeros(steps.CLASSES)
    for batch in batches:
        images, labels = batch['view'], batch['label']
        seen += np.bincount(labels, minlength=steps.CLASSES)
        logits, own = network.logits(images), np.eye(steps.CLASSES)[labels]
        shares, sizes = steps.softmax(logits), np.maximum(seen, 1)
        mitigation = np.minimum(sizes[None, :] / sizes[labels][:, None], 1) ** P
        true = np.maximum((shares * own).sum(axis=1, keepdims=True), EPS)
        compensation = np.maximum(shares / true, 1) ** Q
        factors = np.where(own == 1, 1, mitigation * compensation)
        scores = np.exp(logits) * factors
        scores /= scores.sum(axis=1, keepdims=True)
        losses.append(-np.log((scores * own).sum(axis=1)).mean())
        # Factors are constants: the gradient is that of a softmax.
        network.descend(network.gradients(images, (scores - own) / steps.BATCH))
    steps.same([each.metrics['loss'] for each in after], losses)
    np.testing.assert_array_equal(after[-1].extra['loss'], seen)
    steps.same(after[-1].arrays, network.arrays)
