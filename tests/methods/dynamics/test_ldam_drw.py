"""Ten steps of LDAM-DRW, weighted from the fifth on, equal NumPy's with gradients by hand."""

import numpy as np

from methods.dynamics.supervised_steps import (
    COUNTS,
    Network,
    assert_same,
    cosines,
    drawn_batches,
    softmax,
    ten_steps,
)

BEGIN, SCALE, MAX_MARGIN, BETA = 5, 30.0, 0.5, 0.99


def step(network, images, labels, weights):
    """Makes one step; returns the loss."""
    features, own = network.features(images), np.eye(len(COUNTS))[labels]
    values, backward = cosines(features, network.arrays['classifier.kernel'])
    sizes = np.array(COUNTS, float)
    margins = MAX_MARGIN * sizes**-0.25 / (sizes**-0.25).max()
    shares = softmax(SCALE * (values - own * margins))
    by_image = weights[labels] / weights[labels].sum()
    by_features, by_kernel = backward(SCALE * by_image[:, None] * (shares - own))
    network.descend({'classifier.kernel': by_kernel} | network.below(images, by_features))
    return -(by_image * np.log((shares * own).sum(axis=1))).sum()


def test_ten_steps():
    trained = ten_steps('ldam_drw', {'defer_until': BEGIN, 'weights.beta': BETA})
    network, losses = Network(trained.before), []
    effective = (1 - BETA) / (1 - BETA ** np.array(COUNTS))
    for number, (images, labels) in enumerate(drawn_batches()):
        weights = effective if number >= BEGIN else np.ones(len(COUNTS))
        losses.append(step(network, images, labels, weights))
    np.testing.assert_allclose(trained.losses, losses, rtol=1e-5)
    assert_same(trained.after, network.arrays)
    assert len(set(weights)) == len(COUNTS)
