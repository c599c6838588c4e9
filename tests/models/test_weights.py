"""PyTorch's names and layouts, there and back."""

import pathlib

import jax
import numpy as np
import pytest
from flax import nnx

from ltjax import models
from ltjax.errors import UserError
from ltjax.models.weights import from_torch, to_torch

KEYS = pathlib.Path(__file__).parents[1] / 'golden' / 'models'
CLASSES = {'resnet32_cifar': 10}


def abstract(name, **options):
    options = {'num_classes': CLASSES.get(name, 1000)} | options
    return nnx.eval_shape(lambda: models.create(name, rngs=nnx.Rngs(0), **options))


def drawn(name):
    """Returns random tensors for every key of a PyTorch model, counters included."""
    rng = np.random.default_rng(0)
    tensors = {}
    for line in (KEYS / f'keys_{name}.txt').read_text().splitlines():
        if not line.startswith('#'):
            key, dtype, shape = line.split('\t')
            sides = () if shape == 'scalar' else tuple(map(int, shape.split('x')))
            tensors[key] = np.asarray(rng.random(sides, np.float32), dtype)
    return tensors


@pytest.mark.parametrize('name', ['resnet18', 'resnext50_32x4d', 'resnet32_cifar'])
def test_round_trip_is_exact(name):
    tensors = drawn(name)
    model = abstract(name)
    state = from_torch(model, tensors)
    returned = to_torch(nnx.merge(nnx.graphdef(model), state))
    expected = {key for key in tensors if not key.endswith('num_batches_tracked')}
    assert set(returned) == expected
    for key, value in returned.items():
        np.testing.assert_array_equal(value, tensors[key], strict=True)


@pytest.mark.parametrize('name', ['resnet34', 'resnet50'])
def test_names_and_shapes(name):
    shapes = jax.tree.map(np.shape, nnx.to_pure_dict(from_torch(abstract(name), drawn(name))))
    assert shapes['conv1']['kernel'] == (7, 7, 3, 64)
    assert shapes['layer4'][0]['downsample']['bn']['var'] == (512 if name == 'resnet34' else 2048,)


def test_layouts():
    tensors = drawn('resnet32_cifar')
    state = from_torch(abstract('resnet32_cifar'), tensors)
    kernel = state['layer2'][0]['conv1']['kernel'][...]
    assert kernel[2, 1, 7, 30] == tensors['layer2.0.conv1.weight'][30, 7, 2, 1]
    assert state['classifier']['kernel'][...][5, 9] == tensors['linear.weight'][9, 5]
    np.testing.assert_array_equal(state['bn1']['var'][...], tensors['bn1.running_var'])


def test_the_model_is_left_alone_until_updated():
    tensors = drawn('resnet32_cifar')
    initial = {key: np.zeros_like(value) for key, value in tensors.items()}
    model = abstract('resnet32_cifar')
    model = nnx.merge(nnx.graphdef(model), from_torch(model, initial))
    state = from_torch(model, tensors)
    np.testing.assert_array_equal(to_torch(model)['linear.bias'], np.zeros(10))
    nnx.update(model, state)
    np.testing.assert_array_equal(to_torch(model)['linear.bias'], tensors['linear.bias'])


def test_every_misfit_is_named():
    tensors = drawn('resnet32_cifar')
    del tensors['layer1.0.bn1.running_var']
    tensors['layer4.0.conv1.weight'] = np.zeros((1, 1, 3, 3), np.float32)
    tensors['conv1.weight'] = np.zeros((16, 1, 3, 3), np.float32)
    tensors['linear.bias'] = np.zeros(10, np.int32)
    with pytest.raises(UserError) as refused:
        from_torch(abstract('resnet32_cifar'), tensors)
    message = str(refused.value)
    assert 'missing layer1.0.bn1.running_var' in message
    assert 'unknown layer4.0.conv1.weight' in message
    assert 'conv1.weight (16, 1, 3, 3), not (16, 3, 3, 3)' in message
    assert 'linear.bias of type int32' in message
    assert '\n' not in message


def test_a_long_list_is_shortened():
    with pytest.raises(UserError, match=r'missing .* and 147 more'):
        from_torch(abstract('resnet32_cifar'), {})


def test_other_classes_are_refused():
    with pytest.raises(UserError, match=r'fc\.weight \(1000, 512\), not \(14, 512\)'):
        from_torch(abstract('resnet18', num_classes=14), drawn('resnet18'))
