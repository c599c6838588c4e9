"""PyTorch's names and layouts, there and back."""

import functools
import pathlib

import jax
import numpy as np
import pytest
from flax import nnx

from ltjax import models
from ltjax.errors import UserError
from ltjax.models.torch_names import layouts, torch_key
from ltjax.models.weights import from_torch, layout_of, to_torch

KEYS = pathlib.Path(__file__).parents[1] / 'golden' / 'models'
CLASSES = {'resnet32_cifar': 10, 'resnet32_cifar_normed': 10}
LAYOUTS = {
    'resnet18': 'torchvision',
    'resnext50_32x4d': 'torchvision',
    'resnet32_cifar': 'original',
    'resnet32_cifar_normed': 'original',
    'convnext_tiny': 'torchvision',
    'convnext_tiny_timm': 'timm',
    'convnext_small': 'torchvision',
    'convnext_small_timm': 'timm',
    'convnext_base': 'torchvision',
    'convnext_base_timm': 'timm',
    'efficientnet_lite0': 'original',
    'efficientnet_lite0_timm': 'timm',
}
# Larger than another of the same blocks, or of the same names.
SLOW = ('base', 'small', 'resnext', 'tiny_timm', 'lite0_timm')
ROUND_TRIPS = [name for name in LAYOUTS if 'small' not in name and 'base' not in name]


def slow_if_large(names):
    return [
        pytest.param(name, marks=[pytest.mark.slow] if any(part in name for part in SLOW) else [])
        for name in names
    ]


@functools.cache
def abstract(name, **options):
    options = {'num_classes': CLASSES.get(name, 1000)} | options
    return nnx.eval_shape(lambda: models.create(name, rngs=nnx.Rngs(0), **options))


def listed(name):
    """Returns dtype and shape of every key of a PyTorch model, counters included."""
    keys = {}
    for line in (KEYS / f'keys_{name}.txt').read_text().splitlines():
        if not line.startswith('#'):
            key, dtype, shape = line.split('\t')
            keys[key] = dtype, () if shape == 'scalar' else tuple(map(int, shape.split('x')))
    return keys


def drawn(name):
    """Returns random tensors for every key of a PyTorch model, counters included."""
    rng = np.random.default_rng(0)
    return {
        key: np.asarray(rng.random(shape, np.float32), dtype)
        for key, (dtype, shape) in listed(name).items()
    }


def assert_same(got, want):
    """Compares bit for bit, counters left out."""
    assert set(got) == {key for key in want if not key.endswith('num_batches_tracked')}
    for key, value in got.items():
        np.testing.assert_array_equal(value, want[key], strict=True)


@pytest.mark.parametrize('name', slow_if_large(ROUND_TRIPS))
def test_round_trip_is_exact(name):
    tensors = drawn(name)
    model = abstract(name.removesuffix('_timm'))
    loaded = nnx.merge(nnx.graphdef(model), from_torch(model, tensors))
    assert_same(to_torch(loaded, LAYOUTS[name]), tensors)
    for layout in layouts(model):
        there = to_torch(loaded, layout)
        back = nnx.merge(nnx.graphdef(model), from_torch(model, there))
        assert_same(to_torch(back, LAYOUTS[name]), tensors)


@pytest.mark.parametrize('name', slow_if_large(LAYOUTS))
def test_a_layout_is_recognised_and_written_by_its_keys(name):
    keys, model = listed(name), abstract(name.removesuffix('_timm'))
    assert layout_of(model, keys) == LAYOUTS[name]
    assert layout_of(model, list(keys)[::3]) == LAYOUTS[name]
    zeros = nnx.merge(
        nnx.graphdef(model),
        jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), nnx.state(model)),
    )
    written = {key: value.shape for key, value in to_torch(zeros, LAYOUTS[name]).items()}
    assert written == {
        key: shape for key, (_, shape) in keys.items() if not key.endswith('num_batches_tracked')
    }


@pytest.mark.parametrize(
    'name', slow_if_large(['convnext_tiny', 'convnext_small', 'convnext_base'])
)
def test_the_same_tensor_in_three_layouts(name):
    rows = [line.split('\t') for line in (KEYS / f'keymap_{name}.txt').read_text().splitlines()]
    model = abstract(name)
    keys = [
        [torch_key(model, path, layout) for layout in ('torchvision', 'timm', 'original')]
        for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))
    ]
    assert sorted(keys) == [row for row in rows if not row[0].startswith('#')]


def test_an_unknown_layout_is_refused():
    with pytest.raises(UserError, match=r"unknown layout of ConvNeXt 'tim': did you mean timm"):
        to_torch(abstract('convnext_tiny'), 'tim')


def test_a_model_of_our_own_has_our_names():
    model = models.create('small_cnn', num_classes=3, width=2, rngs=nnx.Rngs(0))
    tensors = to_torch(model)
    assert tensors['convs.0.weight'].shape == (2, 3, 3, 3)
    assert_same(to_torch(nnx.merge(nnx.graphdef(model), from_torch(model, tensors))), tensors)


@pytest.mark.parametrize('name', ['resnet34', 'resnet50'])
def test_names_and_shapes(name):
    shapes = jax.tree.map(np.shape, nnx.to_pure_dict(from_torch(abstract(name), drawn(name))))
    assert shapes['conv1']['kernel'] == (7, 7, 3, 64)
    assert shapes['layer4'][0]['downsample']['bn']['var'] == (512 if name == 'resnet34' else 2048,)


def test_layouts():
    tensors = drawn('resnet32_cifar')
    state = from_torch(abstract('resnet32_cifar'), tensors)
    normed = drawn('resnet32_cifar_normed')
    cosine = from_torch(abstract('resnet32_cifar_normed'), normed)['classifier']['kernel']
    np.testing.assert_array_equal(cosine[...], normed['linear.weight'])
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
