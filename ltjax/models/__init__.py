"""Networks that give an image's features and its logits; `create` makes one by name."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ltjax import errors
from ltjax.models.classifier import ImageClassifier, Outputs, set_chunks, set_key
from ltjax.models.convnext import ConvNeXt
from ltjax.models.efficientnet_lite import EfficientNetLite0
from ltjax.models.on_features import OnFeatures
from ltjax.models.resnet import ResNet
from ltjax.models.resnet_cifar import CifarResNet32
from ltjax.models.small_cnn import SmallCNN
from ltjax.models.vit import ViT

__all__ = [
    'ImageClassifier',
    'OnFeatures',
    'Outputs',
    'create',
    'names',
    'options',
    'set_chunks',
    'set_key',
]

DTYPES = ('float32', 'bfloat16')

_RESNET = ('stem',)
_CONVNEXT = ('stem', 'drop_path_rate')
_VIT = (
    *('patch', 'grid', 'pool', 'class_token', 'registers', 'positions', 'mlp', 'layer_scale'),
    *('qkv_bias', 'pre_norm', 'epsilon', 'drop_path_rate'),
)

# Each model with the options that it alone takes.
_MODELS: Mapping[str, tuple[Callable[..., ImageClassifier], tuple[str, ...]]] = MappingProxyType(
    {
        'small_cnn': (SmallCNN, ('width',)),
        'resnet18': (partial(ResNet, (2, 2, 2, 2), bottleneck=False), _RESNET),
        'resnet34': (partial(ResNet, (3, 4, 6, 3), bottleneck=False), _RESNET),
        'resnet50': (partial(ResNet, (3, 4, 6, 3), bottleneck=True), _RESNET),
        'resnext50_32x4d': (
            partial(ResNet, (3, 4, 6, 3), bottleneck=True, groups=32, group_width=4),
            _RESNET,
        ),
        'resnet32_cifar': (CifarResNet32, ()),
        'resnet32_cifar_normed': (partial(CifarResNet32, cosine=True), ()),
        'convnext_tiny': (partial(ConvNeXt, (3, 3, 9, 3), (96, 192, 384, 768)), _CONVNEXT),
        'convnext_small': (partial(ConvNeXt, (3, 3, 27, 3), (96, 192, 384, 768)), _CONVNEXT),
        'convnext_base': (partial(ConvNeXt, (3, 3, 27, 3), (128, 256, 512, 1024)), _CONVNEXT),
        'efficientnet_lite0': (EfficientNetLite0, ('stem',)),
        'vit_tiny': (partial(ViT, 192, 12, 3), _VIT),
        'vit_small': (partial(ViT, 384, 12, 6), _VIT),
        'vit_base': (partial(ViT, 768, 12, 12), _VIT),
        'vit_large': (partial(ViT, 1024, 24, 16), _VIT),
    }
)


def names() -> list[str]:
    """Returns the names that `create` knows, sorted."""
    return sorted(_MODELS)


def options(name: str) -> tuple[str, ...]:
    """Returns what a network alone takes of the options of `create`; UserError if there is no such network."""
    return _known(name)[1]


def _known(name: str) -> tuple[Callable[..., ImageClassifier], tuple[str, ...]]:
    if name not in _MODELS:
        raise errors.unknown('model', name, _MODELS)
    return _MODELS[name]


def create(
    name: str,
    *,
    num_classes: int,
    channels: int = 3,
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
    remat: bool = False,
    **options: Any,
) -> ImageClassifier:
    """Returns a freshly initialised model, in training mode.

    Args:
      name: one of `names()`.
      num_classes: K, the length of the logits.
      channels: of the images, for example 1 (grey) or 3 (colour).
      rngs: its 'params' stream initialises the weights.
      dtype: computation dtype, 'float32' or 'bfloat16'; parameters, statistics, features and
        logits are float32.
      remat: compute the inside of a block again for the gradient rather than keep it: less memory,
        about a third more time.
      **options: the model's own: `stem` ('imagenet' or 'cifar') of ResNets, ConvNeXts and
        'efficientnet_lite0', `drop_path_rate` of ConvNeXts, `width` of 'small_cnn', those of `vit.ViT`
        of Vision Transformers.

    Raises:
      UserError: for a name or an option that does not exist, or a value the option cannot take.
    """
    model, known = _known(name)
    for option in options:
        if option not in known:
            raise errors.UserError(
                f'model {name!r} has no option {option!r}: leave it out '
                f'(options: {", ".join(known) or "none"}).'
            )
    name_of = dtype if isinstance(dtype, str) else str(jnp.dtype(dtype))
    if name_of not in DTYPES:
        raise errors.unknown('model dtype', name_of, DTYPES)
    made = model(num_classes=num_classes, channels=channels, rngs=rngs, dtype=dtype, **options)
    made.remat = remat
    return made
