"""Several ends of one network: blocks side by side behind its last stage, whose features are joined."""

from collections.abc import Iterable

from flax import nnx

from ltjax.models.classifier import ImageClassifier
from ltjax.models.resnet import BasicBlock, Bottleneck

# Up to here a block is a basic one. Beyond, its two 3x3 convolutions would have more weights than a whole network:
# 75 million for the 2048 channels of a ResNet-50.
WIDEST_BASIC = 512


def add_branches(model: ImageClassifier, blocks: Iterable[nnx.Module]) -> None:
    """Puts blocks side by side behind the last stage of `model`, in place; its features are those of all, joined.

    What pooling has of its own (the norm of a ConvNeXt, the head of an EfficientNet) is shared by them. The classifier
    stays as it is: it needs another if there are several branches.

    Args:
      model: without branches; its `feature_dim` becomes that of all.
      blocks: each from [B, H, W, map_dim], the last stage's output, to the same shape.
    """
    model.branches = nnx.List(blocks)
    model.feature_dim *= len(model.branches)


def residual_block(model: ImageClassifier, rngs: nnx.Rngs) -> nnx.Module:
    """Returns a block that keeps the shape of the last stage's output: the network's own, or a ResNet's.

    Args:
      model: behind which it shall stand.
      rngs: its 'params' stream is drawn from.
    """
    own = model.further_block(rngs)
    if own is not None:
        return own
    width = model.map_dim
    if width <= WIDEST_BASIC:
        return BasicBlock(width, width, width, stride=1, dtype=model.dtype, rngs=rngs)
    return Bottleneck(width, width // 4, width, stride=1, groups=1, dtype=model.dtype, rngs=rngs)
