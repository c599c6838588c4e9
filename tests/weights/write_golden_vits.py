"""Writes tests/golden/models/vit_*.npz: what timm computes with files of tiny Vision Transformers, in float64.

  pip install -e '.[test-weights]' && PYTHONPATH=.:tests python tests/weights/write_golden_vits.py

A golden file holds the keys and shapes of a weight file as its authors hand it on, whose tensors are drawn by the
recipe 'ltjax-golden-v1'; how the model is made that takes them; and features and logits by timm, after timm's own
conversion of the weights. `golden_checks/vits.py` checks it.
"""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from golden_checks import models as golden
from weights.operators import library

WIDTH, DEPTH, HEADS, CLASSES, PATCH, GRID, SEED = 24, 2, 2, 5, 8, 4, 20261127

layers = library('timm.layers')
vision_transformer = library('timm.models.vision_transformer')
eva = library('timm.models.eva')

OURS: Mapping[str, Any] = {'patch': PATCH, 'grid': GRID}
THEIRS = dict(
    *({'img_size': PATCH * GRID, 'patch_size': PATCH, 'dynamic_img_size': True},),
    embed_dim=WIDTH,
    depth=DEPTH,
    num_heads=HEADS,
    num_classes=CLASSES,
)
VIT = functools.partial(vision_transformer.VisionTransformer, **THEIRS)
EVA = functools.partial(eva.Eva, **THEIRS)
DINOV2 = functools.partial(
    *(VIT,),
    init_values=1e-5,
    mlp_ratio=2.66667 * 2,
    mlp_layer=layers.SwiGLUPacked,
    act_layer=torch.nn.SiLU,
)
DINOV3 = functools.partial(
    EVA,
    init_values=1e-5,
    rope_type='dinov3',
    rope_temperature=100,
    rope_rotate_half=True,
    use_rot_pos_emb=True,
    use_abs_pos_emb=False,
    num_reg_tokens=4,
    use_fc_norm=False,
    global_pool='token',
    norm_layer=functools.partial(layers.LayerNorm, eps=1e-5),
)
CLIP = functools.partial(
    VIT,
    pre_norm=True,
    norm_layer=functools.partial(layers.LayerNorm, eps=1e-5),
    act_layer='quick_gelu',
)


class Case(NamedTuple):
    """A weight file: its network in timm, its keys, and what our network is made with."""

    network: torch.nn.Module
    keys: Callable[[dict[str, tuple[int, ...]]], Mapping[str, tuple[int, ...]]]  # of timm's keys
    options: Mapping[str, Any]
    converted: Callable[..., Mapping[str, torch.Tensor]] = vision_transformer.checkpoint_filter_fn


def renamed(keys, *changes):
    """Returns `keys` with parts of their names replaced."""
    found = keys
    for old, new in changes:
        found = {key.replace(old, new): shape for key, shape in found.items()}
    return found


def without(keys, *left_out):
    return {key: shape for key, shape in keys.items() if not key.startswith(left_out)}


def retfound(keys):
    """A masked autoencoder's, whose decoder and norm are of no use, and which has neither fc_norm nor head."""
    return without(keys, 'fc_norm', 'head') | {
        'norm.weight': (WIDTH,),
        'norm.bias': (WIDTH,),
        'mask_token': (1, 1, 16),
        'decoder_pos_embed': (1, GRID**2 + 1, 16),
        'decoder_embed.weight': (16, WIDTH),
    }


def dinov2(keys):
    """The hub's, with registers, and without a head; positions are for another grid too."""
    changed = renamed(keys, ('reg_token', 'register_tokens'), ('fc1', 'w12'), ('fc2', 'w3'))
    more = {'mask_token': (1, WIDTH), 'pos_embed': (1, 1 + 6 * 6, WIDTH)}
    return without(changed, 'head') | more


def dinov3(keys):
    """The hub's, of the larger kind."""
    found = renamed(
        *(
            keys,
            ('reg_token', 'storage_tokens'),
            ('gamma_1', 'ls1.gamma'),
            ('gamma_2', 'ls2.gamma'),
        ),
        *(('fc1_g', 'w1'), ('fc1_x', 'w2'), ('fc2', 'w3'), ('attn.q_bias', 'attn.qkv.bias')),
    )
    found = {key: shape for key, shape in found.items() if not key.endswith('v_bias')}
    for number in range(DEPTH):
        found[f'blocks.{number}.attn.qkv.bias'] = (3 * WIDTH,)
        found[f'blocks.{number}.attn.qkv.bias_mask'] = (3 * WIDTH,)
    more = {'mask_token': (1, WIDTH), 'rope_embed.periods': (WIDTH // HEADS // 4,)}
    return without(found, 'head') | more


def openai(keys):
    """A whole CLIP's, of which a part of the text tower stands for all of it."""
    found = renamed(
        *(
            without(keys, 'head'),
            ('blocks.', 'transformer.resblocks.'),
            ('attn.qkv.', 'attn.in_proj_'),
        ),
        *(
            ('attn.proj', 'attn.out_proj'),
            ('norm_pre', 'ln_pre'),
            ('norm1', 'ln_1'),
            ('norm2', 'ln_2'),
        ),
        *(('mlp.fc1', 'mlp.c_fc'), ('mlp.fc2', 'mlp.c_proj'), ('patch_embed.proj', 'conv1')),
        *(
            ('norm.', 'ln_post.'),
            ('cls_token', 'class_embedding'),
            ('pos_embed', 'positional_embedding'),
        ),
    )
    found |= {'class_embedding': (WIDTH,), 'proj': (WIDTH, 16)}
    found['positional_embedding'] = (1 + GRID**2, WIDTH)
    text = {'positional_embedding': (7, 8), 'text_projection': (8, 16), 'logit_scale': ()}
    return {f'visual.{key}': shape for key, shape in found.items()} | text


def biomedclip(keys):
    """timm's below `visual.trunk.`, and a projection."""
    found = {f'visual.trunk.{key}': shape for key, shape in without(keys, 'head').items()}
    return found | {'visual.head.proj.weight': (16, WIDTH), 'logit_scale': ()}


def panderm(keys):
    """Queries' and values' biases, scales called gamma, below `encoder.`."""
    found = {f'encoder.{key}': shape for key, shape in without(keys, 'head').items()}
    return found | {'mask_token': (1, 1, WIDTH), 'decoder.norm.weight': (WIDTH,)}


def eva_converted(tensors, network):
    """timm has no conversion for PanDerm's prefix, and takes what has a token of masks for another network."""
    found = {key.removeprefix('encoder.'): tensor for key, tensor in tensors.items()}
    del found['mask_token']
    return eva.checkpoint_filter_fn(found, network)


CASES = {
    'timm': Case(VIT(), dict, {}),
    'timm_mean': Case(
        VIT(global_pool='avg', class_token=False, qkv_bias=False),
        dict,
        {'pool': 'mean', 'class_token': False, 'qkv_bias': False},
    ),
    'uni': Case(VIT(init_values=1e-5), dict, {'layer_scale': 1e-5}),
    'retfound': Case(VIT(global_pool='avg'), retfound, {'pool': 'mean'}),
    'dinov2': Case(
        DINOV2(reg_tokens=4, no_embed_class=True),
        dinov2,
        {'registers': 4, 'layer_scale': 1e-5, 'mlp': 'swiglu_packed'},
    ),
    'timm_dinov3': Case(
        DINOV3(qkv_bias=False, global_pool='avg'),
        dict,
        {
            'positions': 'rotary',
            'registers': 4,
            'layer_scale': 1e-5,
            'epsilon': 1e-5,
            'qkv_bias': False,
            'pool': 'mean_of_normed',
        },
        eva.checkpoint_filter_fn,
    ),
    'dinov3': Case(
        DINOV3(swiglu_mlp=True, swiglu_align_to=8),
        dinov3,
        {
            'positions': 'rotary',
            'registers': 4,
            'layer_scale': 1e-5,
            'epsilon': 1e-5,
            'mlp': 'swiglu',
        },
        eva.checkpoint_filter_fn,
    ),
    'clip': Case(CLIP(), openai, {'pre_norm': True, 'epsilon': 1e-5, 'mlp': 'quick_gelu'}),
    'biomedclip': Case(VIT(), biomedclip, {}),
    'panderm': Case(
        EVA(init_values=0.1, global_pool='token'), panderm, {'layer_scale': 0.1}, eva_converted
    ),
}


def written(case: Case) -> dict[str, np.ndarray]:
    """Returns the arrays of a golden file."""
    network = case.network.double().eval()
    theirs = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    keys = dict(sorted(case.keys(theirs).items()))
    tensors = golden.draw_weights(keys, SEED)
    given = {key: torch.tensor(value, dtype=torch.float64) for key, value in tensors.items()}
    has_head = any(key.startswith('head') for key in keys)
    converted = {
        key: value
        for key, value in case.converted(given, network).items()
        if key in theirs and (has_head or not key.startswith('head'))  # CLIP's is a projection
    }
    fresh = {
        key: torch.zeros(shape) if key.endswith('bias') else torch.ones(shape)
        for key, shape in theirs.items()
        if key.startswith(('fc_norm', 'head')) and key not in converted
    }
    network.load_state_dict(converted | fresh)
    made = {
        'arch': 'vit',
        'recipe': 'ltjax-golden-v1',
        'seed': SEED,
        'sizes': np.array([WIDTH, DEPTH, HEADS, CLASSES]),
        'options': json.dumps(dict(OURS) | dict(case.options)),
        'keys': np.array([f'{key}\t{"x".join(map(str, shape))}' for key, shape in keys.items()]),
        'has_head': has_head,
        'weights_sha256': golden.sha256(tensors.values()),
    }
    for number, (height, width) in enumerate(((4, 4), (6, 6), (3, 5))):
        name = f'case{number}'
        shape = (2, 3, PATCH * height, PATCH * width)
        images, digest = golden.draw_images(shape, number)
        with torch.no_grad():
            tokens = network.forward_features(torch.tensor(images, dtype=torch.float64))
            features = network.forward_head(tokens, pre_logits=True)
            logits = network.head(features)
        made |= {
            f'{name}/input_shape': np.array(shape),
            f'{name}/input_seed': number,
            f'{name}/input_sha256': digest,
            f'{name}/features_f64': features.numpy(),
        }
        if has_head:
            made[f'{name}/logits_f64'] = logits.numpy()
    return made


if __name__ == '__main__':
    for case_name, each in CASES.items():
        np.savez_compressed(golden.KEYS / f'vit_{case_name}.npz', **written(each))
