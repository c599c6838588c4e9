"""Ten steps of both stages of GCL equal NumPy's with gradients by hand and the same noise."""

import jax
import numpy as np
import pytest

from methods.dynamics import steps

KERNEL = 'classifier.kernel'
STAGES = {
    'train': {'scale': 30.0, 'margin': 0.0, 'gamma': 0.0},
    'retrain': {'scale': 20.0, 'margin': 0.1, 'gamma': 1.0},
}


def noise_of(step):
    with jax.enable_x64(True):
        key = steps.loss_key(step, 'loss')
        return np.asarray(jax.random.normal(key, (steps.BATCH, steps.CLASSES))) / 3


@pytest.mark.slow
@pytest.mark.parametrize('stage', STAGES)
def test_ten_steps(stage):
    form, batches = STAGES[stage], steps.drawn_batches(0)
    changes = {'retrain.reset_classifier': False}
    before, *after = steps.ten_steps('gcl', changes, batches, stage=stage)
    network, losses = steps.Network(before.arrays), []
    rarity = np.log(max(steps.COUNTS) / steps.COUNTS)
    clouds = rarity / rarity.max()
    for number, batch in enumerate(batches):
        images, own = batch['view'], np.eye(steps.CLASSES)[batch['label']]
        values, backward = steps.cosines(network.features(images), network.arrays[KERNEL])
        cloud = 0.5 * np.abs(np.clip(noise_of(number), -1, 1)) * clouds
        shares = steps.softmax(form['scale'] * (values - cloud - form['margin'] * own))
        true = (shares * own).sum(axis=1)
        factors = (1 - true) ** form['gamma']  # a constant for the gradient
        losses.append(-(factors * np.log(true)).mean())
        by_cosines = form['scale'] * factors[:, None] * (shares - own) / steps.BATCH
        by_features, by_kernel = backward(by_cosines)
        below = network.below(images, by_features) if stage == 'train' else {}
        network.descend({KERNEL: by_kernel} | below)
    steps.same([each.metrics['loss'] for each in after], losses)
    steps.same(after[-1].arrays, network.arrays)
    if stage == 'retrain':
        for name in ('layer.kernel', 'layer.bias'):
            assert before.arrays[name].tobytes() == after[-1].arrays[name].tobytes()
