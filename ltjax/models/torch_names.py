"""What PyTorch libraries call the variables of our models: one table a family.

A table's keys are our paths; its values are the names in each of the family's layouts. In both, {s}
is a stage and {b} a block within it, counted from 0.
"""

import functools
import re
from collections.abc import Hashable, Iterable, Mapping

from ltjax.models.convnext import ConvNeXt
from ltjax.models.efficientnet_lite import STAGES, EfficientNetLite0
from ltjax.models.layers import ImageClassifier
from ltjax.models.resnet import ResNet
from ltjax.models.resnet_cifar import CifarResNet32

Rows = Mapping[str, tuple[str, ...]]

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

# 'original' is the code of a network's authors. Models that are not listed have our own names only.
_FAMILIES: Mapping[type, tuple[tuple[str, ...], Rows]] = {
    ResNet: (('torchvision', 'timm'), _RESNET),
    CifarResNet32: (('original',), _CIFAR),
    ConvNeXt: (('torchvision', 'timm', 'original'), _CONVNEXT),
    EfficientNetLite0: (('original', 'timm'), _EFFICIENTNET),
}


def layouts(model: ImageClassifier) -> tuple[str, ...]:
    """Returns the names of the layouts of a model's family, the default first."""
    return _family(model)[0]


def torch_key(model: ImageClassifier, path: Iterable[Hashable], layout: str) -> str:
    """Returns the state-dict key of the variable at `path` of `model`.

    Args:
      model: its class decides which table holds.
      path: as nnx gives it, for example ('layer1', 0, 'conv1', 'kernel').
      layout: one of `layouts(model)`.
    """
    *parents, leaf = (str(part) for part in path)
    tail = ''
    if leaf in _LEAVES:
        tail = f'.{_LEAVES[leaf]}'
    else:
        parents.append(leaf)
    name = '.'.join(parents)
    known, rows = _family(model)
    for ours, theirs in rows.items():
        found = _pattern(ours).fullmatch(name)
        if found:
            numbers = {letter: int(digits) for letter, digits in found.groupdict().items()}
            return theirs[known.index(layout)].format(**_with_counts(**numbers)) + tail
    return name + tail


def _family(model: ImageClassifier) -> tuple[tuple[str, ...], Rows]:
    return _FAMILIES.get(type(model), (('original',), {}))


@functools.cache
def _pattern(ours: str) -> re.Pattern[str]:
    digits = re.sub(r'\{(\w)\}', r'(?P<\1>\\d+)', ours.replace('.', r'\.'))
    return re.compile(digits)


def _with_counts(s: int = 0, b: int = 0) -> dict[str, int]:
    earlier = sum(depth for depth, *_ in STAGES[:s])
    return {'s': s, 'b': b, 'even': 2 * s, 'odd': 2 * s + 1, 'n': earlier + b}
