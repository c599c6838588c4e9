"""FCD's second stage against NumPy, ten steps: distillation from the first network, and the box around its weights."""

import jax
import numpy as np

from methods.dynamics import two_layer_steps as flat

BOX, WEIGHT, TEMPERATURE, DECAY = 0.05, 0.4, 3.0, 1e-2
OPTIMIZER = flat.SGD | {'weight_decay': DECAY, 'box': BOX}


def gradients(model, teacher, images, labels):
    """Returns the gradients of the mean of (1 - w) CE + w T^2 KL(teacher || network), by the names of the weights."""
    seen, taught = (
        flat.features(each, images) @ each['classifier.kernel'] + each['classifier.bias']
        for each in (model, teacher)
    )
    own = flat.softmax(seen) - np.eye(flat.CLASSES)[labels]
    near = flat.softmax(seen / TEMPERATURE) - flat.softmax(taught / TEMPERATURE)
    to_logits = ((1 - WEIGHT) * own + WEIGHT * TEMPERATURE * near) / len(labels)
    hidden, pixels = flat.features(model, images), images.reshape(len(images), -1)
    to_body = (to_logits @ model['classifier.kernel'].T) * (1 - hidden**2)
    return {
        'classifier.kernel': hidden.T @ to_logits,
        'classifier.bias': to_logits.sum(0),
        'body.kernel': pixels.T @ to_body,
        'body.bias': to_body.sum(0),
    }


def test_ten_steps_agree():
    changes = {
        'retrain.optimizer': OPTIMIZER,
        'retrain.distil': {'weight': WEIGHT, 'temperature': TEMPERATURE},
    }
    with jax.enable_x64(True):
        found = list(flat.ten_steps('fcd', changes))
    begin = found[0]['model']
    model, velocity = dict(begin), {name: np.zeros_like(leaf) for name, leaf in begin.items()}
    for step, batch in enumerate(flat.batches(2)):
        for name, gradient in gradients(model, begin, batch['image'], batch['label']).items():
            velocity[name] = flat.MOMENTUM * velocity[name] + gradient + DECAY * model[name]
        for name, leaf in begin.items():
            moved = model[name] - flat.rate(step) * velocity[name]
            model[name] = np.clip(moved, leaf - BOX, leaf + BOX)
            flat.same(found[step + 1]['model'][name], model[name], f'{name} after step {step}')
    walls = np.concatenate(
        [(np.abs(model[n] - begin[n]) > BOX * (1 - 1e-9)).ravel() for n in begin]
    )
    # Some weights stand at a wall and some do not, so that the box was tested.
    assert walls.any()
    assert not walls.all()
