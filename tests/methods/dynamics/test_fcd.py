"""FCD's second stage against NumPy, ten steps: distillation from the first network, and the box around its weights."""

import numpy as np

from methods.dynamics import steps

BOX, WEIGHT, TEMPERATURE, DECAY = 0.05, 0.4, 3.0, 1e-2
CHANGES = {
    'retrain.optimizer.weight_decay': DECAY,
    'retrain.optimizer.box': BOX,
    'retrain.distil': {'weight': WEIGHT, 'temperature': TEMPERATURE},
}


def gradients(network, teacher, images, labels):
    """Returns the gradients of the mean of (1 - w) CE + w T^2 KL(teacher || network), by the names of the weights."""
    seen, taught = network.logits(images), teacher.logits(images)
    own = steps.softmax(seen) - np.eye(steps.CLASSES)[labels]
    near = steps.softmax(seen / TEMPERATURE) - steps.softmax(taught / TEMPERATURE)
    to_logits = ((1 - WEIGHT) * own + WEIGHT * TEMPERATURE * near) / len(labels)
    return network.gradients(images, to_logits)


def test_ten_steps_agree():
    batches = steps.drawn_batches(0)
    before, *after = steps.ten_steps('fcd', CHANGES, batches, stage='retrain')
    begin, teacher = before.arrays, steps.Network(before.arrays)
    network = steps.Network(begin, decay=DECAY)
    for step, (batch, found) in enumerate(zip(batches, after, strict=True)):
        network.descend(gradients(network, teacher, batch['view'], batch['label']))
        for name, leaf in begin.items():
            network.arrays[name] = np.clip(network.arrays[name], leaf - BOX, leaf + BOX)
        steps.same(found.arrays, network.arrays, f'after step {step}')
    walls = np.concatenate(
        [(np.abs(network.arrays[n] - begin[n]) > BOX * (1 - 1e-9)).ravel() for n in begin]
    )
    # Some weights stand at a wall and some do not, so that the box was tested.
    assert walls.any()
    assert not walls.all()
