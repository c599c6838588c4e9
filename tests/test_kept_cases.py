"""Small and lopsided cases that a whole run must bear: images, batches, classes and devices at their least."""

import jax
import numpy as np
import pytest

import tiny
from ltjax.errors import UserError
from ltjax.run import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('traced_once')]

SHORT = {'method.train.epochs': 1, 'num_bootstrap': 2}


@pytest.fixture
def devices(monkeypatch):
    """Makes it look as if there were so many devices."""
    every = jax.devices()
    return lambda count: monkeypatch.setattr(jax, 'devices', lambda: every[:count])


def made(folder, arrays, **changes):
    return tiny.config('cross_entropy', tiny.npz(folder / 'data.npz', **arrays), SHORT | changes)


def test_a_class_that_validation_and_test_lack_is_left_out_of_every_average(tmp_path):
    arrays = tiny.arrays()
    kept = (arrays['labels'] != 2) | (arrays['split'] == 'train')
    config = made(tmp_path, {name: values[kept] for name, values in arrays.items()})
    results = train.run(config, tmp_path / 'run')
    recalls = [row['recall']['value'] for row in results['test']['per_class']]
    assert recalls[2] is None
    balanced = results['test']['metrics']['balanced_accuracy']['value']
    assert balanced == pytest.approx(np.mean(recalls[:2]))
    assert results['best']['val_balanced_accuracy'] >= 0
    assert any('No test images of class 2' in line for line in results['test']['warnings'])
    assert (tmp_path / 'run' / 'report.html').exists()


@pytest.mark.parametrize('method', ['cross_entropy', 'logit_adjustment', 'lmd'])
def test_one_training_image_a_class_trains(tmp_path, devices, method):
    devices(1)
    data = tiny.npz(tmp_path / 'data.npz', **tiny.arrays((1, 1, 1)))
    stage = 'rrl' if method == 'lmd' else 'train'
    config = tiny.config(method, data, {f'method.{stage}.batch_size': 3})
    state, _, rows = tiny.run(config, tmp_path / 'run')
    assert tiny.finite(state, rows)


@pytest.mark.parametrize('size', [1, 4, 8])
def test_images_of_a_few_pixels_train(tmp_path, devices, size):
    devices(1)
    config = made(tmp_path, tiny.arrays(size=size))
    state, _, rows = tiny.run(config, tmp_path / 'run')
    assert tiny.finite(state, rows)
    assert rows[-1]['step'] == 3


def test_a_batch_of_one_image_trains_and_devices_that_cannot_share_it_say_so(tmp_path, devices):
    config = made(tmp_path, tiny.arrays((3, 2, 1)), **{'method.train.batch_size': 1})
    with pytest.raises(UserError, match='is 1, which 8 devices cannot share evenly: use 8'):
        tiny.run(config, tmp_path / 'shared')
    devices(1)
    state, _, rows = tiny.run(config, tmp_path / 'run')
    assert tiny.finite(state, rows)
    assert rows[-1]['step'] == 6


def test_three_devices_name_the_batch_nearest_to_128_and_train_it(tmp_path, devices):
    config = made(tmp_path, tiny.arrays((80, 40, 10)), **{'method.train.batch_size': 128})
    devices(3)
    with pytest.raises(UserError, match='is 128, which 3 devices cannot share evenly: use 129'):
        tiny.run(config, tmp_path / 'refused')
    config.method.train.batch_size = 129
    three, _, rows = tiny.run(config, tmp_path / 'three')
    devices(1)
    one, _, alone = tiny.run(config, tmp_path / 'one')
    assert rows[-1]['loss'] == pytest.approx(alone[-1]['loss'], rel=1e-5)
    for a, b in zip(jax.tree.leaves(three), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
