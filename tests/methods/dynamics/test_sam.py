"""Ten steps of SAM equal NumPy's with gradients by hand."""

import numpy as np

from methods.dynamics import steps

RHO = 0.3


def loss_and_gradients(network, batch):
    images = batch['view']
    values, by_logits = steps.cross_entropy(network.logits(images), batch['label'])
    return values.mean(), network.gradients(images, by_logits / steps.BATCH)


def test_ten_steps():
    batches = steps.drawn_batches(0)
    before, *after = steps.ten_steps('sam', {'train.sharpness.rho': RHO}, batches)
    network, losses = steps.Network(before.arrays), []
    for batch in batches:
        _, uphill = loss_and_gradients(network, batch)
        length = np.sqrt(sum((gradient**2).sum() for gradient in uphill.values()))
        here = network.arrays
        network.arrays = {name: value + RHO * uphill[name] / length for name, value in here.items()}
        worst, gradients = loss_and_gradients(network, batch)
        losses.append(worst)
        network.arrays = here
        network.descend(gradients)
    steps.same([each.metrics['loss'] for each in after], losses)
    steps.same(after[-1].arrays, network.arrays)
