"""Ten steps of LDAM-DRW, weighted from the third epoch on, equal NumPy's with gradients by hand."""

import numpy as np

from methods.dynamics import steps

BEGIN, SCALE, MAX_MARGIN, BETA = 2, 30.0, 0.5, 0.99


def step(network, images, labels, weights):
    """Makes one step; returns the loss."""
    features, own = network.features(images), np.eye(steps.CLASSES)[labels]
    values, backward = steps.cosines(features, network.arrays['classifier.kernel'])
    sizes = steps.COUNTS.astype(float)
    margins = MAX_MARGIN * sizes**-0.25 / (sizes**-0.25).max()
    shares = steps.softmax(SCALE * (values - own * margins))
    by_image = weights[labels] / weights[labels].sum()
    by_features, by_kernel = backward(SCALE * by_image[:, None] * (shares - own))
    network.descend({'classifier.kernel': by_kernel} | network.below(images, by_features))
    return -(by_image * np.log((shares * own).sum(axis=1))).sum()


def test_ten_steps():
    changes = {'train.defer_until': BEGIN, 'train.weights.beta': BETA}
    batches = steps.drawn_batches(0)
    before, *after = steps.ten_steps('ldam_drw', changes, batches)
    network, losses = steps.Network(before.arrays), []
    effective = (1 - BETA) / (1 - BETA**steps.COUNTS)
    for number, batch in enumerate(batches):
        deferred = number < BEGIN * steps.STEPS_PER_EPOCH
        weights = np.ones(steps.CLASSES) if deferred else effective
        losses.append(step(network, batch['view'], batch['label'], weights))
    steps.same([each.metrics['loss'] for each in after], losses)
    steps.same(after[-1].arrays, network.arrays)
    assert len(set(weights)) == steps.CLASSES
