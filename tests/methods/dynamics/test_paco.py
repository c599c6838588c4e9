"""Ten steps of PaCo equal those of an implementation in NumPy with gradients by hand, in float64.

The momentum encoder moves before it makes the keys of a step; the loss reads the queue before they enter it.
"""

import numpy as np
import pytest

import tiny
from methods.dynamics.two_view_steps import (
    CLASSES,
    EMBEDDING,
    STEPS_PER_EPOCH,
    Network,
    arrays_of,
    contrast,
    ten_steps,
    two_views,
)

QUEUE, SLOW, TEMPERATURE, CLASS_TEMPERATURE = (
    20,
    0.8,
    0.4,
    0.7,
)  # the queue is full after three steps
COUNTS = np.array(tiny.COUNTS)
# Of two epochs: fixed, or from 1 over half of a cosine to 0.01.
ALPHAS = {'paco': (0.3, 0.3), 'paco_aduc': (1.0, 0.505)}
CHANGES = {
    'embedding_dim': EMBEDDING,
    'queue': QUEUE,
    'momentum': SLOW,
    'temperature': TEMPERATURE,
    'class_temperature': CLASS_TEMPERATURE,
    'dropout': 0.0,
    'alpha.fixed': 0.3,
    'alpha.decay_epochs': 2,
}


def moved(slow, fast):
    return {name: SLOW * slow[name] + (1 - SLOW) * value for name, value in fast.items()}


def by_hand(before, alphas):
    """Returns the parameters, the momentum encoder's, the queue and its labels after ten steps, and the losses."""
    network, slow, losses = Network(before), before, []
    keys, key_labels = np.zeros((0, EMBEDDING)), np.zeros(0, int)
    for step, (pairs, labels) in enumerate(zip(*two_views(), strict=True)):
        slow = moved(slow, network.parameters)
        _, new_keys = Network(slow).forward(pairs[:, 1])
        logits, unit = network.forward(pairs[:, 0])
        batch = len(labels)
        constant = np.concatenate([new_keys, keys])
        rows = np.concatenate([unit, constant])
        row_labels = np.concatenate([labels, labels, key_labels])
        of_classes = (logits + np.log(COUNTS / COUNTS.sum())) / CLASS_TEMPERATURE
        columns = np.concatenate([of_classes, unit @ rows.T / TEMPERATURE], axis=1)
        others = np.arange(batch)[:, None] != np.arange(len(rows))[None, :]
        same = alphas[step // STEPS_PER_EPOCH] * (labels[:, None] == row_labels[None, :]) * others
        positives = np.concatenate([np.eye(CLASSES)[labels], same], axis=1)
        candidates = np.concatenate([np.ones((batch, CLASSES), bool), others], axis=1)
        value, gradient = contrast(columns, positives, candidates)
        by_classes, by_rows = gradient[:, :CLASSES], gradient[:, CLASSES:]
        by_anchors = by_rows[:, :batch]
        by_unit = (by_anchors + by_anchors.T) @ unit + by_rows[:, batch:] @ constant
        gradients = network.backward(by_classes / CLASS_TEMPERATURE, by_unit / TEMPERATURE)
        network.descend(gradients, step)
        keys = np.concatenate([keys, new_keys])[-QUEUE:]
        key_labels = np.concatenate([key_labels, labels])[-QUEUE:]
        losses.append(value)
    return network.parameters, slow, keys, key_labels, losses


@pytest.mark.parametrize('name', ['paco', 'paco_aduc'])
def test_ten_steps_are_those_of_the_formulas(name):
    before, state, losses = ten_steps(name, CHANGES)
    parameters, slow, keys, key_labels, expected_losses = by_hand(before, ALPHAS[name])
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-6)
    # The framework moves it after each step, for the keys of the next.
    momentum = moved(slow, parameters)
    for expected, model in ((parameters, state.model), (momentum, state.extra['momentum'])):
        found = arrays_of(model)
        assert set(found) == set(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-7, err_msg=key)
            assert not np.array_equal(found[key], before[key]), key
    queue = state.extra['queue']
    assert queue.filled.all()
    oldest = int(queue.pointer)
    # The queue is float32, as embeddings are outside of this test.
    np.testing.assert_allclose(np.roll(queue.features, -oldest, 0), keys, rtol=1e-5, atol=1e-6)
    assert np.roll(queue.labels, -oldest).tolist() == key_labels.tolist()
