"""Vision Transformers are timm's, key for key and number for number, with random weights of timm's making."""

import argparse
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import tiny
from golden_checks import vits
from golden_checks.models import KEYS
from ltjax import models
from ltjax.errors import UserError
from ltjax.models import pretrained
from ltjax.models.positions import resampled
from ltjax.models.weights import to_torch
from weights.operators import library

timm = library('timm')
resample_abs_pos_embed = library('timm.layers').resample_abs_pos_embed

DINOV2 = {'patch': 14, 'layer_scale': 1e-5}
DINOV3 = {
    'positions': 'rotary',
    'registers': 4,
    'layer_scale': 1e-5,
    'epsilon': 1e-5,
    'qkv_bias': False,
}
CLIP = {'pre_norm': True, 'epsilon': 1e-5}
# timm's name, what timm is told, our name, what our network is told.
NETWORKS = {
    'vit_tiny_patch16_224': ({}, 'vit_tiny', {}),
    'vit_small_patch8_224': ({}, 'vit_small', {'patch': 8}),
    'vit_small_patch16_224': (
        {'global_pool': 'avg', 'init_values': 0.1},
        'vit_small',
        {'pool': 'mean', 'layer_scale': 0.1},
    ),
    'vit_small_patch14_dinov2': ({'img_size': 224}, 'vit_small', DINOV2),
    'vit_small_patch14_reg4_dinov2': ({'img_size': 224}, 'vit_small', DINOV2 | {'registers': 4}),
    'vit_small_patch16_dinov3': (
        {'global_pool': 'avg'},
        'vit_small',
        DINOV3 | {'pool': 'mean_of_normed'},
    ),
    'vit_small_plus_patch16_dinov3': (
        {'global_pool': 'token'},
        'vit_small',
        DINOV3 | {'mlp': 'swiglu'},
    ),
    'vit_base_patch16_clip_224': ({}, 'vit_base', CLIP),
    'vit_base_patch16_clip_quickgelu_224': ({}, 'vit_base', CLIP | {'mlp': 'quick_gelu'}),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_keys_and_numbers(name):
    theirs, ours, options = NETWORKS[name]
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=7, dynamic_img_size=True, **theirs).eval()
    with torch.no_grad():
        for key, value in network.named_parameters():
            if (
                value.ndim == 1 or 'token' in key
            ):  # of which timm's start at zero, at one or near to it
                value.add_(0.1 * torch.randn(value.shape))
    tensors = {key: value.numpy() for key, value in network.state_dict().items()}
    make = functools.partial(models.create, ours, **options)
    abstract = nnx.eval_shape(lambda: make(num_classes=7, rngs=nnx.Rngs(0)))
    state, layout = pretrained.fit(make, abstract, tensors)
    model = nnx.merge(nnx.graphdef(abstract), state)
    model.eval()
    written = to_torch(model, layout)
    assert set(written) == set(tensors)
    for key, value in tensors.items():
        if (
            key != 'pos_embed'
        ):  # which has a place for the class token, or has it in the class token
            np.testing.assert_array_equal(written[key], value)
    graphdef, state = nnx.split(model)
    run = jax.jit(lambda state, images: nnx.merge(graphdef, state)(images))
    patch = options.get('patch', 16)
    for sides in ((14 * patch, 14 * patch), (8 * patch, 5 * patch)):
        images = np.random.default_rng(0).normal(size=(2, 3, *sides)).astype(np.float32)
        with torch.no_grad():
            tokens = network.forward_features(torch.tensor(images))
            features = network.forward_head(tokens, pre_logits=True).numpy()
            logits = network(torch.tensor(images)).numpy()
        outputs = run(state, jnp.asarray(images.transpose(0, 2, 3, 1)))
        for got, want in ((outputs.features, features), (outputs.logits, logits)):
            assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize('old', [(4, 4), (14, 14), (37, 37), (5, 9)])
@pytest.mark.parametrize('new', [(4, 4), (16, 16), (7, 3), (1, 1), (40, 9)])
def test_positions_of_any_grid(old, new):
    positions = np.random.default_rng(0).normal(size=(old[0] * old[1], 6)).astype(np.float32)
    want = resample_abs_pos_embed(torch.tensor(positions)[None], new, old, num_prefix_tokens=0)
    got = resampled(jnp.asarray(positions), old, new)
    np.testing.assert_allclose(got, want[0].numpy(), rtol=1e-4, atol=1e-5)


def test_a_checkpoint_with_the_arguments_of_its_program(tmp_path):
    """As masked autoencoders are handed on, RETFound's too."""
    _, tensors, make = vits.read(KEYS / 'vit_retfound.npz')
    target = nnx.eval_shape(lambda: make(num_classes=5, rngs=nnx.Rngs(0)))
    content = {
        'model': {key: torch.tensor(value) for key, value in tensors.items()},
        'epoch': 799,
        'args': argparse.Namespace(model='mae_vit_large_patch16', lr=1e-3, path=None),
    }
    torch.save(content, tmp_path / 'checkpoint.bin')
    found = pretrained.load(make, target, name=str(tmp_path / 'checkpoint.bin'))
    assert found.record['classifier'] == 'fresh'
    assert tiny.same(found.state, pretrained.fit(make, target, tensors)[0])

    content['args'].path = pathlib.PurePosixPath('a')  # of a class that is not known
    torch.save(content, tmp_path / 'strange.bin')
    with pytest.raises(UserError, match=r'strange.bin is no readable .bin file of tensors'):
        pretrained.load(make, target, name=str(tmp_path / 'strange.bin'))
