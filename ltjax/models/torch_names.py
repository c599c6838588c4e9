"""What PyTorch libraries call the variables of our models: one table a family.

A table's keys are our paths, of a layer or of one variable; its values are the names in each of the
family's layouts. In both, {s} is a stage and {b} a block within it, counted from 0.
"""

import functools
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ltjax.models import vit_files
from ltjax.models.classifier import ImageClassifier
from ltjax.models.convnext import ConvNeXt
from ltjax.models.efficientnet_lite import STAGES, EfficientNetLite0
from ltjax.models.resnet import ResNet
from ltjax.models.resnet_cifar import CifarResNet32
from ltjax.models.vit import ViT

Rows = Mapping[str, tuple[str, ...]]
Tensors = Mapping[str, np.ndarray]

_LEAVES = {
    'kernel': 'weight',
    'scale': 'weight',
    'bias': 'bias',
    'mean': 'running_mean',
    'var': 'running_var',
}

_RESNET: Rows = {
    'layer{s}.{b}.downsample.conv': ('layer{s}.{b}.downsample.0',) * 2,
    'layer{s}.{b}.downsample.bn': ('layer{s}.{b}.downsample.1',) * 2,
    'classifier': ('fc',) * 2,
}
_CIFAR: Rows = {'classifier': ('linear',)}

# Within a block of ConvNeXt: our name, torchvision's, timm's and the authors'.
_CONVNEXT_BLOCK = (
    ('depthwise', 'block.0', 'conv_dw', 'dwconv'),
    ('norm', 'block.2', 'norm', 'norm'),
    ('expand', 'block.3', 'mlp.fc1', 'pwconv1'),
    ('project', 'block.5', 'mlp.fc2', 'pwconv2'),
    ('layer_scale', 'layer_scale', 'gamma', 'gamma'),
)

# torchvision counts the convolutions between stages as stages, which makes {even} and {odd} numbers.
_CONVNEXT: Rows = {
    'stem.conv': ('features.0.0', 'stem.0', 'downsample_layers.0.0'),
    'stem.norm': ('features.0.1', 'stem.1', 'downsample_layers.0.1'),
    'stages.{s}.downsample.norm': (
        'features.{even}.0',
        'stages.{s}.downsample.0',
        'downsample_layers.{s}.0',
    ),
    'stages.{s}.downsample.conv': (
        'features.{even}.1',
        'stages.{s}.downsample.1',
        'downsample_layers.{s}.1',
    ),
    **{
        'stages.{s}.blocks.{b}.' + ours: (
            'features.{odd}.{b}.' + torchvision,
            'stages.{s}.blocks.{b}.' + timm,
            'stages.{s}.{b}.' + authors,
        )
        for ours, torchvision, timm, authors in _CONVNEXT_BLOCK
    },
    'norm': ('classifier.0', 'head.norm', 'norm'),
    'classifier': ('classifier.2', 'head.fc', 'head'),
}

# The authors' port to PyTorch counts blocks through all stages: {n}. timm has another kind of block,
# with other names, in the first stage.
_EFFICIENTNET: Rows = {
    'stem.conv': ('_conv_stem', 'conv_stem'),
    'stem.bn': ('_bn0', 'bn1'),
    'stages.0.{b}.depthwise.conv': ('_blocks.{b}._depthwise_conv', 'blocks.0.{b}.conv_dw'),
    'stages.0.{b}.depthwise.bn': ('_blocks.{b}._bn1', 'blocks.0.{b}.bn1'),
    'stages.0.{b}.project.conv': ('_blocks.{b}._project_conv', 'blocks.0.{b}.conv_pw'),
    'stages.0.{b}.project.bn': ('_blocks.{b}._bn2', 'blocks.0.{b}.bn2'),
    'stages.{s}.{b}.expand.conv': ('_blocks.{n}._expand_conv', 'blocks.{s}.{b}.conv_pw'),
    'stages.{s}.{b}.expand.bn': ('_blocks.{n}._bn0', 'blocks.{s}.{b}.bn1'),
    'stages.{s}.{b}.depthwise.conv': ('_blocks.{n}._depthwise_conv', 'blocks.{s}.{b}.conv_dw'),
    'stages.{s}.{b}.depthwise.bn': ('_blocks.{n}._bn1', 'blocks.{s}.{b}.bn2'),
    'stages.{s}.{b}.project.conv': ('_blocks.{n}._project_conv', 'blocks.{s}.{b}.conv_pwl'),
    'stages.{s}.{b}.project.bn': ('_blocks.{n}._bn2', 'blocks.{s}.{b}.bn3'),
    'head.conv': ('_conv_head', 'conv_head'),
    'head.bn': ('_bn1', 'bn2'),
    'classifier': ('_fc', 'classifier'),
}

# Within a block of a Vision Transformer: our name, timm's, that of timm's DINOv3, DINOv2's and DINOv3's authors', and
# OpenAI's, whose attention is PyTorch's own.
_VIT_BLOCK = (
    ('norm1', 'norm1', 'norm1', 'norm1', 'norm1', 'ln_1'),
    ('attention.qkv.kernel', *('attn.qkv.weight',) * 4, 'attn.in_proj_weight'),
    ('attention.qkv.bias', *('attn.qkv.bias',) * 4, 'attn.in_proj_bias'),
    ('attention.project', *('attn.proj',) * 4, 'attn.out_proj'),
    ('layer_scale1', 'ls1.gamma', 'gamma_1', 'ls1.gamma', 'ls1.gamma', 'ls_1.gamma'),
    ('norm2', 'norm2', 'norm2', 'norm2', 'norm2', 'ln_2'),
    ('mlp.expand', *('mlp.fc1',) * 4, 'mlp.c_fc'),
    ('mlp.project', *('mlp.fc2',) * 4, 'mlp.c_proj'),
    ('mlp.gate', 'mlp.fc1_g', 'mlp.fc1_g', 'mlp.w1', 'mlp.w1', 'mlp.gate'),
    ('mlp.value', 'mlp.fc1_x', 'mlp.fc1_x', 'mlp.w2', 'mlp.w2', 'mlp.value'),
    ('mlp.gate_and_value', 'mlp.fc1', 'mlp.fc1', 'mlp.w12', 'mlp.w12', 'mlp.gate_and_value'),
    ('mlp.join', 'mlp.fc2', 'mlp.fc2', 'mlp.w3', 'mlp.w3', 'mlp.join'),
    ('layer_scale2', 'ls2.gamma', 'gamma_2', 'ls2.gamma', 'ls2.gamma', 'ls_2.gamma'),
)

_VIT: Rows = {
    'stem.conv': (*('patch_embed.proj',) * 4, 'conv1'),
    'stem.class_token': (*('cls_token',) * 4, 'class_embedding'),
    'stem.registers': (*('reg_token',) * 2, 'register_tokens', 'storage_tokens', 'reg_token'),
    'stem.positions': (*('pos_embed',) * 4, 'positional_embedding'),
    'stem.norm': (*('norm_pre',) * 4, 'ln_pre'),
    **{
        'blocks.{b}.' + ours: (
            *('blocks.{b}.' + theirs for theirs in others),
            'transformer.resblocks.{b}.' + openai,
        )
        for ours, *others, openai in _VIT_BLOCK
    },
    'norm': (*('norm',) * 4, 'ln_post'),
    'pool_norm': ('fc_norm',) * 5,
    'classifier': ('head',) * 5,
}


class _Family(NamedTuple):
    """Layouts of a family, their names for what we call otherwise, and what is to be done before they hold."""

    layouts: tuple[str, ...]
    rows: Rows
    tidied: Callable[[Any, Tensors], Tensors] = lambda model, tensors: tensors


# 'original' is the code of a network's authors. Models that are not listed have our own names only.
_FAMILIES: Mapping[type, _Family] = {
    ResNet: _Family(('torchvision', 'timm'), _RESNET),
    CifarResNet32: _Family(('original',), _CIFAR),
    ConvNeXt: _Family(('torchvision', 'timm', 'original'), _CONVNEXT),
    EfficientNetLite0: _Family(('original', 'timm'), _EFFICIENTNET),
    ViT: _Family(('timm', 'timm_dinov3', 'dinov2', 'dinov3', 'clip'), _VIT, vit_files.tidied),
}


def layouts(model: ImageClassifier) -> tuple[str, ...]:
    """Returns the names of the layouts of a model's family, the default first."""
    return _family(model).layouts


def tidied(model: ImageClassifier, tensors: Tensors) -> Tensors:
    """Returns what of `tensors`, by state-dict key, is a model's of the family of `model`, as its layouts have it.

    Raises:
      UserError: they are not those of one network.
    """
    return _family(model).tidied(model, tensors)


def torch_key(model: ImageClassifier, path: Iterable[Hashable], layout: str) -> str:
    """Returns the state-dict key of the variable at `path` of `model`.

    Args:
      model: its class decides which table holds.
      path: as nnx gives it, for example ('layer1', 0, 'conv1', 'kernel').
      layout: one of `layouts(model)`.
    """
    whole = '.'.join(map(str, path))
    name, _, leaf = whole.rpartition('.')
    known, rows, _ = _family(model)
    splits = [(whole, '')]  # a row may name a variable
    if leaf in _LEAVES:  # or the layer that it belongs to
        splits.append((name, f'.{_LEAVES[leaf]}'))
    for ours, theirs in rows.items():
        for part, tail in splits:
            found = _pattern(ours).fullmatch(part)
            if found:
                numbers = {letter: int(digits) for letter, digits in found.groupdict().items()}
                return theirs[known.index(layout)].format(**_with_counts(**numbers)) + tail
    return ''.join(splits[-1])


def _family(model: ImageClassifier) -> _Family:
    return _FAMILIES.get(type(model), _Family(('original',), {}))


@functools.cache
def _pattern(ours: str) -> re.Pattern[str]:
    digits = re.sub(r'\{(\w)\}', r'(?P<\1>\\d+)', ours.replace('.', r'\.'))
    return re.compile(digits)


def _with_counts(s: int = 0, b: int = 0) -> dict[str, int]:
    earlier = sum(depth for depth, *_ in STAGES[:s])
    return {'s': s, 'b': b, 'even': 2 * s, 'odd': 2 * s + 1, 'n': earlier + b}
