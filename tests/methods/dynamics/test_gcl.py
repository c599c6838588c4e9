"""Ten steps of both stages of GCL equal NumPy's with gradients by hand and the same noise."""

import jax
import numpy as np
import pytest

from methods.dynamics.supervised_steps import (
    BATCH,
    COUNTS,
    Network,
    assert_same,
    cosines,
    drawn_batches,
    loss_key,
    softmax,
    ten_steps,
)

KERNEL = 'classifier.kernel'
STAGES = {
    'train': {'scale': 30.0, 'margin': 0.0, 'gamma': 0.0, 'trained': ()},
    'retrain': {'scale': 20.0, 'margin': 0.1, 'gamma': 1.0, 'trained': (KERNEL,)},
}


def noise_of(step):
    with jax.enable_x64(True):
        return np.asarray(jax.random.normal(loss_key(step), (BATCH, len(COUNTS)))) / 3


@pytest.mark.parametrize('stage', STAGES)
def test_ten_steps(stage):
    trained, form = ten_steps('gcl', {}, stage=stage), STAGES[stage]
    network, losses = Network(trained.before, form['trained']), []
    rarity = np.log(max(COUNTS) / np.array(COUNTS))
    clouds = rarity / rarity.max()
    for number, (images, labels) in enumerate(drawn_batches()):
        features, own = network.features(images), np.eye(len(COUNTS))[labels]
        values, backward = cosines(features, network.arrays[KERNEL])
        cloud = 0.5 * np.abs(np.clip(noise_of(number), -1, 1)) * clouds
        shares = softmax(form['scale'] * (values - cloud - form['margin'] * own))
        true = (shares * own).sum(axis=1)
        factors = (1 - true) ** form['gamma']  # a constant for the gradient
        losses.append(-(factors * np.log(true)).mean())
        by_cosines = form['scale'] * factors[:, None] * (shares - own) / BATCH
        by_features, by_kernel = backward(by_cosines)
        network.descend({KERNEL: by_kernel} | network.below(images, by_features))
    np.testing.assert_allclose(trained.losses, losses, rtol=1e-5)
    assert_same(trained.after, network.arrays)
    if stage == 'retrain':
        for name in ('layer.kernel', 'layer.bias'):
            assert trained.before[name].tobytes() == trained.after[name].tobytes()
