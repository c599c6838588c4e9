"""Every model by name: shapes, parameter counts, dtypes, gradients, and refusals."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ltjax import models
from ltjax.errors import UserError

# Trainable parameters with 10 classes and 3 channels, and the length of the features.
SIZES = {
    'small_cnn': (72_954, 64),
    'resnet18': (11_689_512 - 990 * 513, 512),
    'resnet34': (21_797_672 - 990 * 513, 512),
    'resnet50': (25_557_032 - 990 * 2049, 2048),
    'resnext50_32x4d': (25_028_904 - 990 * 2049, 2048),
    'resnet32_cifar': (464_154, 64),
    'resnet32_cifar_normed': (464_144, 64),
    'convnext_tiny': (28_589_128 - 990 * 769, 768),
    'convnext_small': (50_223_688 - 990 * 769, 768),
    'convnext_base': (88_591_464 - 990 * 1025, 1024),
    'efficientnet_lite0': (4_652_008 - 990 * 1281, 1280),
    # timm's, of patches of 16 pixels and images of 224.
    'vit_tiny': (5_717_416 - 990 * 193, 192),
    'vit_small': (22_050_664 - 990 * 385, 384),
    'vit_base': (86_567_656 - 990 * 769, 768),
    'vit_large': (304_326_632 - 990 * 1025, 1024),
}


def abstract(name, **options):
    options = {'num_classes': 10} | options
    return nnx.eval_shape(lambda: models.create(name, rngs=nnx.Rngs(0), **options))


def outputs_of(model, shape):
    """Returns the shapes of a model's outputs and feature maps, without computing them."""

    graphdef, state = nnx.split(model)

    def run(state, images):
        model = nnx.merge(graphdef, state, copy=True)
        return model(images), model.feature_maps(images)

    return jax.eval_shape(run, state, jax.ShapeDtypeStruct(shape, jnp.float32))


def test_names():
    assert models.names() == sorted(SIZES)


@pytest.mark.slow
@pytest.mark.parametrize('name', SIZES)
def test_sizes_and_shapes(name):
    model = abstract(name)
    parameters = nnx.state(model, nnx.Param)
    size, feature_dim = SIZES[name]
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(parameters)) == size
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {jnp.dtype('float32')}
    head = {path[1:] for path, _ in nnx.to_flat_state(parameters) if path[0] == 'classifier'}
    assert head == ({('kernel',)} if name.endswith('normed') else {('kernel',), ('bias',)})
    assert model.classifier.kernel.shape == (feature_dim, 10)

    outputs, maps = outputs_of(model, (2, 32, 32, 3))
    assert model.feature_dim == feature_dim
    assert outputs.features.shape == (2, feature_dim)
    assert outputs.logits.shape == (2, 10)
    stages = len(maps) - 1
    assert set(maps) == {'stem', *(f'stage{stage}' for stage in range(1, stages + 1))}
    last = 320 if name == 'efficientnet_lite0' else feature_dim
    assert maps[f'stage{stages}'].shape[-1] == last


@pytest.mark.slow
@pytest.mark.parametrize(
    'name', ['small_cnn', 'resnet18', 'resnet32_cifar', 'convnext_tiny', 'efficientnet_lite0']
)
def test_grey_images_and_bfloat16(name):
    model = abstract(name, channels=1, dtype=jnp.bfloat16)
    outputs, maps = outputs_of(model, (2, 37, 33, 1))
    assert {value.dtype for value in maps.values()} == {jnp.dtype('bfloat16')}
    assert outputs.features.dtype == outputs.logits.dtype == jnp.float32
    parameters = nnx.state(model, nnx.Param)
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {jnp.dtype('float32')}


STEMS = {
    ('resnet18', 'imagenet'): (8, 8, 4, 2, 1),
    ('resnet18', 'cifar'): (32, 32, 16, 8, 4),
    ('convnext_tiny', 'imagenet'): (8, 8, 4, 2, 1),
    ('convnext_tiny', 'cifar'): (16, 16, 8, 4, 2),
    ('efficientnet_lite0', 'imagenet'): (16, 16, 8, 4, 2, 2, 1, 1),
    ('efficientnet_lite0', 'cifar'): (32, 32, 16, 8, 4, 4, 2, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'stem'), STEMS)
def test_stems(name, stem):
    _, maps = outputs_of(abstract(name, stem=stem), (1, 32, 32, 3))
    sides = {'stem' if not at else f'stage{at}': side for at, side in enumerate(STEMS[name, stem])}
    assert {stage: value.shape[1] for stage, value in maps.items()} == sides


def test_width():
    model = abstract('small_cnn', width=4)
    assert model.feature_dim == 16
    outputs, maps = outputs_of(model, (1, 28, 28, 3))
    assert outputs.features.shape == (1, 16)
    sides = {name: value.shape[1] for name, value in maps.items()}
    assert sides == {'stem': 28, 'stage1': 14, 'stage2': 7, 'stage3': 7}


@nnx.jit(static_argnums=1)
def make(rngs, num_classes):
    return models.create('small_cnn', num_classes=num_classes, channels=1, width=4, rngs=rngs)


@nnx.jit
def apply(model, images):
    features = model.encode(images)
    return model(images), features, model.classify(features), model.feature_maps(images)


def test_parts_agree_with_the_whole():
    model = make(nnx.Rngs(0), 3)
    model.eval()
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    outputs, features, logits, maps = apply(model, images)
    np.testing.assert_allclose(outputs.features, features, rtol=1e-6)
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-6)
    np.testing.assert_allclose(features, np.mean(maps['stage3'], (1, 2)), rtol=1e-6)
    assert np.abs(logits[0] - logits[1]).max() > 0


def test_one_seed_gives_one_model():
    one, same, other = (make(nnx.Rngs(seed), 3).classifier.kernel[...] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0


def test_train_and_eval_reach_every_normalisation():
    model = abstract('resnet50')
    model.eval()
    norms = [m for _, m in nnx.iter_modules(model) if hasattr(m, 'use_running_average')]
    assert len(norms) == 53
    assert all(norm.use_running_average for norm in norms)
    model.train()
    assert not any(norm.use_running_average for norm in norms)


def test_images_that_would_leave_an_empty_map_are_refused():
    outputs_of(abstract('convnext_tiny', stem='cifar'), (1, 28, 28, 3))
    with pytest.raises(UserError, match=r"28x28 pixels are too small.*32 a side.*'cifar'"):
        outputs_of(abstract('convnext_tiny'), (1, 28, 28, 3))


def test_refusals():
    with pytest.raises(UserError, match=r"unknown model 'resnet19': did you mean .*resnet18"):
        abstract('resnet19')
    with pytest.raises(UserError, match=r"'small_cnn' has no option 'stem'.*width"):
        abstract('small_cnn', stem='cifar')
    for name in ('resnet18', 'convnext_tiny', 'efficientnet_lite0'):
        with pytest.raises(UserError, match=r"unknown stem 'tiny'.*'imagenet' or 'cifar'"):
            abstract(name, stem='tiny')
    with pytest.raises(UserError, match=r"'vit_tiny' has no option 'stem': leave it out .*patch"):
        abstract('vit_tiny', stem='imagenet')
    with pytest.raises(UserError, match=r'drop_path_rate is 1.0: choose 0 or more, below 1'):
        abstract('convnext_tiny', drop_path_rate=1.0)


@pytest.mark.parametrize(
    'name',
    ['small_cnn', 'resnet18', 'resnet32_cifar', 'convnext_tiny', 'efficientnet_lite0', 'vit_tiny'],
)
def test_a_tap_takes_the_place_of_every_map(name):
    model = abstract(name)
    seen = []

    def tap(name, feature_map):
        seen.append(name)
        return feature_map[:1]  # of one image

    graphdef, state = nnx.split(model)

    def run(state, images):
        model = nnx.merge(graphdef, state, copy=True)
        maps = model.feature_maps(images, tap)
        assert seen == list(maps)
        return maps, model(images, tap)

    maps, outputs = jax.eval_shape(run, state, jax.ShapeDtypeStruct((4, 64, 64, 3), jnp.float32))
    assert all(each.shape[0] == 1 for each in maps.values())
    assert outputs.logits.shape == (1, 10)
