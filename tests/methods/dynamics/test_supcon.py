"""Ten steps of SupCon and of SimCLR equal those of an implementation in NumPy with gradients by hand, in float64."""

import numpy as np
import pytest

from methods.dynamics import steps

TEMPERATURE, BASE = 0.4, 0.07


def by_hand(before, batches, own_image_only):
    """Returns the parameters after ten steps, and the loss of each."""
    network, losses = steps.Network(before), []
    factor = 1.0 if own_image_only else TEMPERATURE / BASE
    for batch in batches:
        who = np.tile(np.arange(steps.BATCH) if own_image_only else batch['label'], 2)
        images = np.concatenate([batch['first'], batch['second']])
        unit, backward = network.embeddings(network.features(images))
        others = ~np.eye(len(who), dtype=bool)
        positives = (others & (who[:, None] == who[None, :])).astype(float)
        value, gradient = steps.contrast(unit @ unit.T / TEMPERATURE, positives, others)
        by_projection, by_features = backward(factor * (gradient + gradient.T) @ unit / TEMPERATURE)
        network.descend(by_projection | network.below(images, by_features))
        losses.append(factor * value)
    return network.arrays, losses


@pytest.mark.parametrize('name', ['supcon', 'infonce'])
def test_ten_steps_are_those_of_the_formulas(name):
    changes = {'train.embedding_dim': steps.EMBEDDING, 'train.loss.temperature': TEMPERATURE}
    batches = steps.drawn_batches(0, views=('first', 'second'))
    before, *after = steps.ten_steps(name, changes, batches)
    expected, losses = by_hand(before.arrays, batches, own_image_only=name == 'infonce')
    steps.same([each.metrics['loss'] for each in after], losses)
    found = after[-1].arrays
    steps.same(found, expected)
    for key in expected:
        moves = not key.startswith('classifier')
        assert np.array_equal(found[key], before.arrays[key]) != moves, key
