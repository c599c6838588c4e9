"""Ten steps of SAM equal NumPy's with gradients by hand."""

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

RHO = 0.3


def loss_and_gradients(network, images, labels):
    features, own = network.features(images), np.eye(len(COUNTS))[labels]
    logits = features @ network.arrays['classifier.kernel'] + network.arrays['classifier.bias']
    shares = softmax(logits)
    gradients = linear_gradients(network, images, (shares - own) / BATCH)
    return -np.log((shares * own).sum(axis=1)).mean(), gradients


def test_ten_steps():
    trained = ten_steps('sam', {'sharpness.rho': RHO})
    network, losses = Network(trained.before), []
    for images, labels in drawn_batches():
        _, uphill = loss_and_gradients(network, images, labels)
        length = np.sqrt(sum((gradient**2).sum() for gradient in uphill.values()))
        here = network.arrays
        network.arrays = {name: value + RHO * uphill[name] / length for name, value in here.items()}
        worst, gradients = loss_and_gradients(network, images, labels)
        losses.append(worst)
        network.arrays = here
        network.descend(gradients)
    np.testing.assert_allclose(trained.losses, losses, rtol=1e-5)
    assert_same(trained.after, network.arrays)
