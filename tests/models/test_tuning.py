"""Tuning: the same outputs at first, the right parameters train, and low-rank products fold into the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import models
from ltjax.engine.state import flatten, parameter_filter, with_parameters
from ltjax.engine.step import set_batch_norm
from ltjax.errors import UserError
from ltjax.models import tuning
from ltjax.models.convnext import ConvNeXt
from ltjax.models.depth import depths
from ltjax.models.held import Held
from ltjax.models.resnet import Bottleneck, ResNet
from ltjax.models.vit import ViT
from ltjax.models.weights import from_torch, to_torch

pytestmark = pytest.mark.slow

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)


def vit(**options):
    options = {'patch': 8, 'grid': 2} | options
    return ViT(24, 2, 2, num_classes=3, rngs=nnx.Rngs(0), **options)


def rotary(**options):
    return vit(positions='rotary', registers=2, layer_scale=0.5, **options)


def convnext(**options):
    model = ConvNeXt((1, 2), (8, 16), num_classes=3, stem='cifar', rngs=nnx.Rngs(0), **options)
    for stage in model.stages:
        for block in stage.blocks:
            block.layer_scale[...] = jnp.ones_like(block.layer_scale[...])
    return model


def resnet(**options):
    return ResNet(
        (1, 1, 1, 1), bottleneck=True, num_classes=3, stem='cifar', rngs=nnx.Rngs(0), **options
    )


def small_cnn(**options):
    return models.create('small_cnn', num_classes=3, width=4, rngs=nnx.Rngs(0), **options)


def tuned(make, how, size=0, **options):
    model = make(**options)
    tuning.tune(model, how, size, rngs=nnx.Rngs(1))
    return model


def logits(model):
    graphdef, state = nnx.split(model)
    return np.asarray(jax.jit(lambda state: nnx.merge(graphdef, state)(IMAGES).logits)(state))


def moved(model):
    """Puts other numbers into what trains, as a training does."""
    rng = np.random.default_rng(1)
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        if path[0] != 'classifier':
            variable[...] += 0.1 * rng.normal(size=variable.shape).astype(np.float32)
    return model


def names(model, kinds=nnx.Variable):
    return {'.'.join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(model, kinds))}


def trained(model, trains='all'):
    return names(model, parameter_filter(trains))


@pytest.mark.parametrize('make', [vit, rotary, convnext])
def test_new_parameters_change_nothing_at_first_and_much_later(make):
    plain = logits(make())
    for how in ('lora', 'adapter'):
        model = tuned(make, how, 2)
        np.testing.assert_allclose(logits(model), plain, atol=1e-6)
        assert np.abs(logits(moved(model)) - plain).max() > 1e-3


@pytest.mark.parametrize('make', [vit, convnext])
def test_low_rank_products_are_merged_without_a_trace(make):
    model = moved(tuned(make, 'lora', 2))
    before = logits(model)
    tuning.merge(model)
    np.testing.assert_allclose(logits(model), before, atol=1e-5)
    plain = make()
    nnx.update(plain, from_torch(plain, to_torch(model)))  # would refuse any other tensor
    np.testing.assert_allclose(logits(plain), before, atol=1e-5)
    assert np.abs(logits(make()) - before).max() > 1e-3


def test_a_product_beside_a_pointwise_convolution_takes_its_stride():
    block = Bottleneck(4, 4, 8, stride=2, groups=1, dtype=jnp.float32, rngs=nnx.Rngs(0))
    layer, x = block.downsample.conv, jax.random.normal(jax.random.key(0), (1, 6, 6, 4))
    plain = layer(x)
    layer.conv_general_dilated = nnx.data(tuning.LowRank(layer, 2, rngs=nnx.Rngs(1)))
    before = moved(layer)(x)
    assert np.abs(before - plain).max() > 0.01
    tuning.merge(block)
    np.testing.assert_allclose(layer(x), before, atol=1e-5)
    assert set(names(layer)) == {'kernel'}


def test_a_low_rank_product_is_equation_3():
    layer = tuned(vit, 'lora', 2).blocks[0].mlp.expand
    layer.dot_general.up[...] = jnp.full((2, 96), 0.5)
    x = jax.random.normal(jax.random.key(0), (5, 24))
    whole = layer.kernel[...] + layer.dot_general.down[...] @ layer.dot_general.up[...]
    np.testing.assert_allclose(layer(x), x @ whole, rtol=1e-4, atol=1e-5)


def test_an_adapter_is_scaled_and_beside_the_branch():
    block = moved(tuned(vit, 'adapter', 4)).blocks[0]
    x = jax.random.normal(jax.random.key(0), (1, 5, 24))
    with_it, adapter = block(x), block.adapter
    block.adapter = None
    between = x + block.attention(block.norm1(x))
    hidden = nnx.relu(
        block.norm2(between) @ adapter.down.kernel[...] + adapter.down.bias[...][None, None]
    )
    bottleneck = hidden @ adapter.up.kernel[...] + adapter.up.bias[...][None, None]
    np.testing.assert_allclose(with_it, block(x) + 0.1 * bottleneck, atol=1e-5)


@pytest.mark.parametrize('make', [vit, rotary])
def test_prompts_are_seen_inside_a_block_alone(make):
    model = tuned(make, 'prompt', 3)
    maps = model.feature_maps(IMAGES)
    assert {value.shape for value in maps.values()} == {(2, 4 + model.stem.prefix, 24)}
    assert np.abs(logits(model) - logits(make())).max() > 1e-3
    tokens = jax.random.normal(jax.random.key(0), (1, 5, 24))
    turned, rotation = model.blocks[0].prompts(tokens, jnp.ones((2, 5, 12)))
    np.testing.assert_array_equal(turned[:, 5:], model.blocks[0].prompts.tokens[...][None])
    np.testing.assert_array_equal(rotation[:, 5:, 0], [[1, 1, 1], [0, 0, 0]])


def test_what_cannot_be_merged_is_exported_under_our_names():
    adapter = to_torch(tuned(vit, 'adapter', 5))
    assert adapter['blocks.1.adapter.down.weight'].shape == (5, 24)
    assert set(to_torch(vit())) < set(adapter)
    assert to_torch(tuned(vit, 'prompt', 3))['blocks.1.prompts.tokens'].shape == (3, 24)


HEAD = {'classifier.kernel', 'classifier.bias'}


@pytest.mark.parametrize(
    ('make', 'how', 'size', 'expected'),
    [
        (vit, 'last', 0, lambda path: path.startswith(('blocks.1.', 'norm.'))),
        (vit, 'last', 2, lambda path: path.startswith(('blocks.', 'norm.'))),
        (vit, 'bias', 0, lambda path: path.endswith('.bias')),
        (vit, 'lora', 2, lambda path: '.dot_general.' in path),
        (vit, 'adapter', 2, lambda path: '.adapter.' in path),
        (vit, 'prompt', 2, lambda path: path.endswith('.prompts.tokens')),
        (convnext, 'last', 1, lambda path: path.startswith(('stages.1.blocks.1.', 'norm.'))),
        (small_cnn, 'last', 1, lambda path: path.startswith(('convs.5.', 'norms.5.'))),
        (small_cnn, 'last', 6, lambda path: path.startswith(('convs.', 'norms.'))),
        (resnet, 'lora', 2, lambda path: 'conv_general_dilated' in path),
    ],
)
def test_the_right_parameters_train(make, how, size, expected):
    model = nnx.eval_shape(lambda: tuned(make, how, size))
    parameters = names(model, (nnx.Param, Held))
    assert trained(model) == HEAD | {name for name in parameters if expected(name)}
    assert trained(model, 'encoder') == trained(model) - HEAD
    # What was there is there still, and nothing that was added is held.
    plain = trained(nnx.eval_shape(make))
    assert names(model, Held) == plain - trained(model)
    assert plain <= parameters


def test_low_rank_products_are_beside_every_map_of_a_block_and_nowhere_else():
    found = {
        name.rpartition('.dot_general')[0]
        for name in trained(nnx.eval_shape(lambda: tuned(vit, 'lora'))) - HEAD
    }
    layers = ('attention.qkv', 'attention.project', 'mlp.expand', 'mlp.project')
    assert found == {f'blocks.{block}.{layer}' for block in (0, 1) for layer in layers}
    found = {
        name.rpartition('.conv_general')[0]
        for name in trained(nnx.eval_shape(lambda: tuned(resnet, 'lora'))) - HEAD
    }
    layers = ('conv1', 'conv3', 'downsample.conv')
    assert found == {f'layer{stage}.0.{layer}' for stage in (1, 2, 3, 4) for layer in layers}


def test_parameters_are_counted():
    model = tuned(vit, 'lora', 2)
    count, whole = tuning.count(nnx.state(model))
    of_block = 2 * (24 + 72) + 2 * (24 + 24) + 2 * 2 * (24 + 96)
    assert count == 2 * of_block + 24 * 3 + 3
    assert whole == tuning.count(nnx.state(vit()))[0] + 2 * of_block


def test_a_norm_whose_scale_is_held_keeps_its_statistics():
    for how, statistics in (('bias', set()), ('last', {'norms.5.mean', 'norms.5.var'})):
        model = tuned(small_cnn, how)
        set_batch_norm(model, 'batch')
        before = flatten(nnx.state(model, nnx.BatchStat))
        model(IMAGES)
        after = flatten(nnx.state(model, nnx.BatchStat))
        changed = {name for name in before if not tiny.same(before[name], after[name])}
        assert {name.removesuffix('.value') for name in changed} == statistics
        models.set_chunks(model, 2)
        assert model.remat == bool(statistics)


@pytest.mark.parametrize('how', ['lora', 'prompt'])
def test_parts_of_a_batch_bfloat16_and_rematerialised_blocks(how):
    def gradients(model):
        graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)

        def loss(parameters):
            return jnp.square(nnx.merge(graphdef, parameters, rest, copy=True)(IMAGES).logits).sum()

        return jax.jit(jax.grad(loss))(parameters)

    plain = moved(tuned(vit, how, 2))
    parts = moved(tuned(vit, how, 2))
    parts.chunks, parts.remat = 2, True
    expected = gradients(plain)
    found = gradients(parts)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, expected
    )
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(expected))
    narrow = moved(tuned(vit, how, 2, dtype=jnp.bfloat16))
    assert narrow.feature_maps(IMAGES)['stage2'].dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow(IMAGES).logits, plain(IMAGES).logits, atol=0.1)


def test_a_teacher_is_of_what_trains_and_has_the_rest_of_the_network():
    model = tuned(vit, 'lora', 2)
    slow = nnx.state(moved(tuned(vit, 'lora', 2)), nnx.Param)
    teacher = with_parameters(model, slow)
    np.testing.assert_array_equal(logits(teacher), logits(moved(tuned(vit, 'lora', 2))))


@pytest.mark.parametrize(
    ('make', 'how', 'size', 'message'),
    [
        (vit, 'lorra', 0, "unknown model.tune 'lorra'.*did you mean lora"),
        (vit, 'lora', -1, "model.tune_size is -1 for 'lora': leave it out"),
        (vit, 'bias', 3, "model.tune_size is 3 for 'bias': leave it out"),
        (small_cnn, 'last', 7, 'there are 6 blocks: use fewer'),
        (vit, 'last', 3, 'model.tune_size is 3, but there are 2 blocks: use fewer'),
        (small_cnn, 'lora', 0, "'lora' does not suit SmallCNN: it suits ViT, ConvNeXt"),
        (resnet, 'adapter', 0, "'adapter' does not suit ResNet: it suits ViT and ConvNeXt"),
        (convnext, 'prompt', 0, "'prompt' does not suit ConvNeXt: it suits ViT;"),
    ],
)
def test_what_does_not_suit_a_network_is_refused(make, how, size, message):
    with pytest.raises(UserError, match=message):
        nnx.eval_shape(lambda: tuned(make, how, size))


def test_a_resnet_of_basic_blocks_has_too_few_linear_maps():
    with pytest.raises(UserError, match="'lora' does not suit ResNet: .* ResNets of bottlenecks"):
        nnx.eval_shape(
            lambda: tuned(
                lambda: models.create('resnet18', num_classes=3, rngs=nnx.Rngs(0)), 'lora'
            )
        )


def test_every_network_has_its_blocks_in_order():
    blocks = {'convnext_tiny': 18, 'efficientnet_lite0': 16, 'resnet32_cifar': 15, 'small_cnn': 6}
    for name, number in blocks.items():
        model = nnx.eval_shape(
            lambda name=name: models.create(name, num_classes=3, rngs=nnx.Rngs(0))
        )
        flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
        found = depths('.'.join(map(str, path)) for path, _ in flat)
        stem = number if name == 'small_cnn' else number + 1
        assert set(found.values()) == set(range(stem + 1)), name
        assert found['classifier.kernel'] == 0
    assert depths(['stages.0.1.x', 'stages.1.downsample.x', 'stages.1.blocks.0.y', 'head.x']) == {
        'stages.0.1.x': 2, 'stages.1.downsample.x': 1, 'stages.1.blocks.0.y': 1, 'head.x': 0,
    }  # fmt: skip
