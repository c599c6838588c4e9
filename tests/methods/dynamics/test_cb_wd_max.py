"""CB+WD+Max's second stage against NumPy, ten steps: the weighted loss, the decay and the cap of the first weights."""

import numpy as np

from methods.dynamics import steps

BETA, DECAY, THRESHOLD = 0.9999, 0.1, 0.1
CHANGES = {
    'retrain.optimizer.weight_decay': DECAY,
    'retrain.optimizer.max_norm_threshold': THRESHOLD,
}


def gradients(network, images, labels, class_weights):
    """Returns the gradients of the weighted mean over images and classes of BCE(softmax(logits), one-hot)."""
    probability = steps.softmax(network.logits(images))
    target = np.eye(steps.CLASSES)[labels]
    to_probability = (1 - target) / (1 - probability) - target / probability
    inner = (to_probability * probability).sum(1, keepdims=True)
    to_logits = probability * (to_probability - inner)
    to_logits *= class_weights[labels][:, None] / (len(labels) * steps.CLASSES)
    return network.dense('classifier', network.features(images))[1](to_logits)[0]


def test_ten_steps_agree():
    batches = steps.drawn_batches(0)
    before, *after = steps.ten_steps('cb_wd_max', CHANGES, batches, stage='retrain')
    network, kernel = steps.Network(before.arrays, decay=DECAY), 'classifier.kernel'
    weights = (1 - BETA) / (1 - BETA ** steps.COUNTS.astype(float))
    weights *= steps.CLASSES / weights.sum()
    norms = np.linalg.norm(network.arrays[kernel], axis=0)
    cap = norms.min() + THRESHOLD * (norms.max() - norms.min())
    moved = []
    for step, (batch, found) in enumerate(zip(batches, after, strict=True)):
        network.descend(gradients(network, batch['view'], batch['label'], weights))
        norms = np.linalg.norm(network.arrays[kernel], axis=0)
        moved.append(norms > cap)
        network.arrays[kernel] = network.arrays[kernel] * np.minimum(1, cap / norms)
        steps.same(found.arrays, network.arrays, f'after step {step}')
        assert found.arrays['layer.kernel'].tobytes() == before.arrays['layer.kernel'].tobytes()
        steps.same(found.optimizer[-1]['cap'], cap, 'cap')
    # The cap met some classes and not others, so that it was tested.
    assert np.any(moved)
    assert not np.all(moved)
