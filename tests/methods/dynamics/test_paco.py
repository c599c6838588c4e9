"""Ten steps of PaCo equal those of an implementation in NumPy with gradients by hand, in float64.

The momentum encoder moves before it makes the keys of a step; the loss reads the queue before they enter it.
"""

import numpy as np
import pytest

from methods.dynamics import steps

# The queue is full after three steps.
QUEUE, SLOW, TEMPERATURE, CLASS_TEMPERATURE = 20, 0.8, 0.4, 0.7
LOG_PRIOR = np.log(steps.COUNTS / steps.COUNTS.sum())
# Of five epochs: fixed, or in two from 1 over half of a cosine to 0.01.
ALPHAS = {'paco': (0.3,) * 5, 'paco_aduc': (1.0, 0.505, 0.01, 0.01, 0.01)}
CHANGES = {
    'embedding_dim': steps.EMBEDDING,
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


def by_hand(before, batches, alphas):
    """Returns the parameters, the momentum encoder's, the queue and its labels after ten steps, and the losses."""
    network, slow, losses = steps.Network(before), before, []
    keys, key_labels = np.zeros((0, steps.EMBEDDING)), np.zeros(0, int)
    for step, each in enumerate(batches):
        images, labels, batch = each['first'], each['label'], steps.BATCH
        slow = moved(slow, network.arrays)
        keeper = steps.Network(slow)
        new_keys, _ = keeper.embeddings(keeper.features(each['second']))
        unit, backward = network.embeddings(network.features(images))
        constant = np.concatenate([new_keys, keys])
        rows = np.concatenate([unit, constant])
        row_labels = np.concatenate([labels, labels, key_labels])
        of_classes = (network.logits(images) + LOG_PRIOR) / CLASS_TEMPERATURE
        columns = np.concatenate([of_classes, unit @ rows.T / TEMPERATURE], axis=1)
        others = np.arange(batch)[:, None] != np.arange(len(rows))[None, :]
        same = others & (labels[:, None] == row_labels[None, :])
        alpha = alphas[step // steps.STEPS_PER_EPOCH]
        positives = np.concatenate([np.eye(steps.CLASSES)[labels], alpha * same], axis=1)
        candidates = np.concatenate([np.ones((batch, steps.CLASSES), bool), others], axis=1)
        value, gradient = steps.contrast(columns, positives, candidates)
        by_classes, by_rows = gradient[:, : steps.CLASSES], gradient[:, steps.CLASSES :]
        by_anchors = by_rows[:, :batch]
        by_unit = (by_anchors + by_anchors.T) @ unit + by_rows[:, batch:] @ constant
        by_projection, by_features = backward(by_unit / TEMPERATURE)
        gradients = network.gradients(images, by_classes / CLASS_TEMPERATURE)
        for name, further in network.below(images, by_features).items():
            gradients[name] += further
        network.descend(gradients | by_projection)
        keys = np.concatenate([keys, new_keys])[-QUEUE:]
        key_labels = np.concatenate([key_labels, labels])[-QUEUE:]
        losses.append(value)
    return network.arrays, slow, keys, key_labels, losses


@pytest.mark.slow
@pytest.mark.parametrize('name', ['paco', 'paco_aduc'])
def test_ten_steps_are_those_of_the_formulas(name):
    batches = steps.drawn_batches(0, views=('first', 'second'))
    before, *after = steps.ten_steps(name, CHANGES, batches)
    parameters, slow, keys, key_labels, losses = by_hand(before.arrays, batches, ALPHAS[name])
    steps.same([each.metrics['loss'] for each in after], losses)
    # The framework moves it after each step, for the keys of the next.
    momentum = moved(slow, parameters)
    arrays, extra = after[-1].arrays, after[-1].extra
    slow_arrays = steps.arrays_of(extra['momentum'])
    for expected, found in ((parameters, arrays), (momentum, slow_arrays)):
        steps.same(found, expected)
        for key, value in found.items():
            assert not np.array_equal(value, before.arrays[key]), key
    queue = extra['queue']
    assert queue.filled.all()
    oldest = int(queue.pointer)
    steps.same(np.roll(queue.features, -oldest, 0), keys)
    assert np.roll(queue.labels, -oldest).tolist() == key_labels.tolist()
