"""CB+WD+Max's second stage against NumPy, ten steps: the weighted loss, the decay and the cap of the first weights."""

import jax
import numpy as np

from methods.dynamics import two_layer_steps as flat

BETA, DECAY, THRESHOLD = 0.9999, 0.1, 0.1


def gradients(kernel, bias, seen, labels, class_weights):
    """Returns the gradients of the weighted mean over images and classes of BCE(softmax(logits), one-hot)."""
    probability = flat.softmax(seen @ kernel + bias)
    target = np.eye(flat.CLASSES)[labels]
    to_probability = (1 - target) / (1 - probability) - target / probability
    inner = (to_probability * probability).sum(1, keepdims=True)
    to_logits = probability * (to_probability - inner)
    to_logits *= class_weights[labels][:, None] / (len(labels) * flat.CLASSES)
    return seen.T @ to_logits, to_logits.sum(0)


def test_ten_steps_agree():
    with jax.enable_x64(True):
        found = list(flat.ten_steps('cb_wd_max', {'retrain.optimizer': OPTIMIZER}))
    model = found[0]['model']
    kernel, bias = model['classifier.kernel'], model['classifier.bias']
    weights = (1 - BETA) / (1 - BETA ** np.array(flat.COUNTS, float))
    weights *= flat.CLASSES / weights.sum()
    norms = np.linalg.norm(kernel, axis=0)
    cap = norms.min() + THRESHOLD * (norms.max() - norms.min())
    velocity, moved = [np.zeros_like(kernel), np.zeros_like(bias)], []
    for step, batch in enumerate(flat.batches(2)):
        seen = flat.features(model, batch['image'])
        both = gradients(kernel, bias, seen, batch['label'], weights)
        for i, (gradient, weight) in enumerate(zip(both, (kernel, bias), strict=True)):
            velocity[i] = flat.MOMENTUM * velocity[i] + gradient + DECAY * weight
        kernel = kernel - flat.rate(step) * velocity[0]
        bias = bias - flat.rate(step) * velocity[1]
        norms = np.linalg.norm(kernel, axis=0)
        moved.append(norms > cap)
        kernel = kernel * np.minimum(1, cap / norms)
        after = found[step + 1]['model']
        flat.same(after['classifier.kernel'], kernel, f'kernel after step {step}')
        flat.same(after['classifier.bias'], bias, f'bias after step {step}')
        assert after['body.kernel'].tobytes() == model['body.kernel'].tobytes()
        flat.same(found[step + 1]['optimizer'][-1]['cap'], cap, 'cap')
    # The cap met some classes and not others, so that it was tested.
    assert np.any(moved)
    assert not np.all(moved)


OPTIMIZER = flat.SGD | {'weight_decay': DECAY, 'max_norm_threshold': THRESHOLD}
