"""Ten steps of the seesaw loss, its counts running, equal NumPy's with gradients by hand."""

import numpy as np

from methods.dynamics.supervised_steps import (
    BATCH,
    COUNTS,
    Network,
    assert_same,
    drawn_batches,
    linear_gradients,
    softmax,
    ten_steps,
)

P, Q, EPS = 0.8, 2.0, 0.01


def test_ten_steps():
    trained = ten_steps('seesaw', {})
    network, losses = Network(trained.before), []
    seen = np.zeros(len(COUNTS))
    for images, labels in drawn_batches():
        seen += np.bincount(labels, minlength=len(COUNTS))
        features, own = network.features(images), np.eye(len(COUNTS))[labels]
        logits = features @ network.arrays['classifier.kernel'] + network.arrays['classifier.bias']
        shares, sizes = softmax(logits), np.maximum(seen, 1)
        mitigation = np.minimum(sizes[None, :] / sizes[labels][:, None], 1) ** P
        true = np.maximum((shares * own).sum(axis=1, keepdims=True), EPS)
        compensation = np.maximum(shares / true, 1) ** Q
        factors = np.where(own == 1, 1, mitigation * compensation)
        scores = np.exp(logits) * factors
        scores /= scores.sum(axis=1, keepdims=True)
        losses.append(-np.log((scores * own).sum(axis=1)).mean())
        # Factors are constants: the gradient is that of a softmax.
        network.descend(linear_gradients(network, images, (scores - own) / BATCH))
    np.testing.assert_allclose(trained.losses, losses, rtol=1e-5)
    np.testing.assert_array_equal(trained.extra['loss'], seen)
    assert_same(trained.after, network.arrays)
