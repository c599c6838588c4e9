"""Ten steps of SupCon and of SimCLR equal those of an implementation in NumPy with gradients by hand, in float64."""

import numpy as np
import pytest

from methods.dynamics.two_view_steps import (
    EMBEDDING,
    Network,
    arrays_of,
    contrast,
    ten_steps,
    two_views,
)

TEMPERATURE, BASE = 0.4, 0.07


def by_hand(before, own_image_only):
    """Returns the parameters after ten steps, and the loss of each."""
    network, losses = Network(before), []
    factor = 1.0 if own_image_only else TEMPERATURE / BASE
    for step, (pairs, labels) in enumerate(zip(*two_views(), strict=True)):
        who = np.tile(np.arange(len(labels)) if own_image_only else labels, 2)
        logits, unit = network.forward(np.concatenate([pairs[:, 0], pairs[:, 1]]))
        others = ~np.eye(len(who), dtype=bool)
        positives = (others & (who[:, None] == who[None, :])).astype(float)
        value, gradient = contrast(unit @ unit.T / TEMPERATURE, positives, others)
        by_unit = factor * (gradient + gradient.T) @ unit / TEMPERATURE
        gradients = network.backward(np.zeros_like(logits), by_unit)
        network.descend(gradients, step, without='classifier')
        losses.append(factor * value)
    return network.parameters, losses


@pytest.mark.parametrize('name', ['supcon', 'infonce'])
def test_ten_steps_are_those_of_the_formulas(name):
    changes = {'train.embedding_dim': EMBEDDING, 'train.loss.temperature': TEMPERATURE}
    before, state, losses = ten_steps(name, changes)
    expected, expected_losses = by_hand(before, own_image_only=name == 'infonce')
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-6)
    found = arrays_of(state.model)
    assert set(found) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-7, err_msg=key)
        moves = not key.startswith('classifier')
        assert np.array_equal(found[key], before[key]) != moves, key
