"""Parameter-efficient tuning: which parameters of a network with weights train, and few new ones beside them.

What does not train is `held.Held`: a constant for the optimiser, weight decay and teachers, and part of checkpoints and
exported files. The classifier, and the heads that a method adds afterwards, always train.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import zeros
from jax.typing import DTypeLike

from ltjax.errors import UserError, unknown
from ltjax.models import convnext, transformer
from ltjax.models.classifier import ImageClassifier
from ltjax.models.depth import block_of, depths
from ltjax.models.held import WEIGHTS, hold
from ltjax.models.layers import UNIFORM_FAN_IN
from ltjax.models.vit import ViT

ADAPTER_SCALE = 0.1  # s of AdaptFormer, eq. 6

Layer = nnx.Linear | nnx.Conv


def _product(layer: Layer) -> str:
    """Returns the attribute by which one of flax's layers takes another product in place of XLA's."""
    return 'dot_general' if isinstance(layer, nnx.Linear) else 'conv_general_dilated'


class LowRank(nnx.Module):
    """A product with a kernel W, and one with `down` and `up` beside it: x W + (x down) up.

    It takes the place of the product that a linear layer or a pointwise convolution calls, so that the paths of the
    layer's own parameters stay, and its computation dtype holds.

    Source: Hu et al. 2022, "LoRA", eq. 3, with alpha = r, so that the scale is 1. `up` is zero at first, `down` uniform
    within 1 / sqrt(inputs), as in the authors' code. Queries, keys and values, one layer here, share their `down`.

    Attributes:
      down: parameters [inputs, rank].
      up: parameters [rank, outputs].
    """

    def __init__(self, layer: Layer, rank: int, *, rngs: nnx.Rngs) -> None:
        self.plain = getattr(layer, _product(layer))
        inputs, outputs = layer.kernel.shape[-2:]
        self.down = nnx.Param(UNIFORM_FAN_IN(rngs.params(), (inputs, rank), jnp.float32))
        self.up = nnx.Param(jnp.zeros((rank, outputs), jnp.float32))

    def __call__(
        self, x: jax.Array, kernel: jax.Array, how: Any, *more: Any, **options: Any
    ) -> Any:
        """Returns what the product does, and the other; `how` holds a convolution's strides."""
        y = self.plain(x, kernel, how, *more, **options)
        if kernel.ndim == 4:
            x = x[:, :: how[0], :: how[1]]
        precision = options['precision']
        narrow = jnp.matmul(x, self.down[...].astype(x.dtype), precision=precision)
        return y + jnp.matmul(narrow, self.up[...].astype(x.dtype), precision=precision)


class Adapter(nnx.Module):
    """A bottleneck beside an MLP, of the same input: s up(relu(down(x))).

    Source: Chen et al. 2022, "AdaptFormer", eq. 5 and 6. Reading: the input is normalised, as printed, which the
    released code leaves out by default. `up` is zero at first.
    """

    def __init__(self, width: int, size: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.down = nnx.Linear(width, size, kernel_init=UNIFORM_FAN_IN, dtype=dtype, rngs=rngs)
        self.up = nnx.Linear(size, width, kernel_init=zeros, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return ADAPTER_SCALE * self.up(nnx.relu(self.down(x)))


class Prompts(nnx.Module):
    """Tokens that one block sees beside an image's, and that nothing sees after it.

    Source: Jia et al. 2022, "Visual Prompt Tuning", section 3.2, VPT-deep; at first uniform within
    sqrt(6 / (values of a patch + width)), as in the authors' code. They have no position.

    Attributes:
      tokens: parameters [number, width].
    """

    def __init__(self, number: int, width: int, patch_values: int, *, rngs: nnx.Rngs) -> None:
        bound = math.sqrt(6 / (patch_values + width))
        drawn = jax.random.uniform(rngs.params(), (number, width), minval=-bound, maxval=bound)
        self.tokens = nnx.Param(drawn)

    def __call__(
        self, x: jax.Array, rotation: jax.Array | None
    ) -> tuple[jax.Array, jax.Array | None]:
        """Returns tokens [B, T + number, C] of `x` [B, T, C], the prompts last, and rotations that leave them."""
        tokens = self.tokens[...].astype(x.dtype)
        prompts = jnp.broadcast_to(tokens, (x.shape[0], *tokens.shape))
        if rotation is not None:
            unturned = jnp.zeros((2, len(tokens), rotation.shape[-1])).at[0].set(1.0)
            rotation = jnp.concatenate([rotation, unturned], axis=1)
        return jnp.concatenate([x, prompts], axis=1), rotation


def _add_low_rank(model: ImageClassifier, rank: int, rngs: nnx.Rngs) -> None:
    layers = {
        name: module
        for path, module in nnx.iter_modules(model)
        if block_of(name := '.'.join(map(str, path))) is not None
        and (
            isinstance(module, nnx.Linear)
            or (isinstance(module, nnx.Conv) and module.kernel.shape[:2] == (1, 1))
        )
    }
    if _blocks(layers) != _blocks(_paths(model)):
        raise _unsuited(
            'lora', model, 'ViT, ConvNeXt, EfficientNet-Lite0 and ResNets of bottlenecks'
        )
    for layer in layers.values():
        setattr(layer, _product(layer), nnx.data(LowRank(layer, rank, rngs=rngs)))


def _add_adapters(model: ImageClassifier, size: int, rngs: nnx.Rngs) -> None:
    blocks = [
        module
        for _, module in nnx.iter_modules(model)
        if isinstance(module, transformer.Block | convnext.Block)
    ]
    if not blocks:
        raise _unsuited('adapter', model, 'ViT and ConvNeXt')
    for block in blocks:
        norm = block.norm if isinstance(block, convnext.Block) else block.norm2
        block.adapter = Adapter(norm.num_features, size, dtype=model.dtype, rngs=rngs)


def _add_prompts(model: ImageClassifier, number: int, rngs: nnx.Rngs) -> None:
    if not isinstance(model, ViT):
        raise _unsuited('prompt', model, 'ViT')
    *patch, width = model.stem.conv.kernel.shape
    for block in model.blocks:
        block.prompts = Prompts(number, width, math.prod(patch), rngs=rngs)


def _nothing(model: ImageClassifier, size: int, rngs: nnx.Rngs) -> None:
    """Adds no parameter."""


class How(NamedTuple):
    """A way of tuning.

    Attributes:
      size: where none is given; 0: it has none.
      trains: (path, depth as `depths` says, size) -> whether a parameter of the network trains, beside the classifier.
      add: (network, size, rngs) -> None, puts new parameters into it.
    """

    size: int
    trains: Callable[[str, int, int], bool] = lambda path, depth, size: False
    add: Callable[[ImageClassifier, int, nnx.Rngs], None] = _nothing


HOWS: Mapping[str, How] = MappingProxyType(
    {
        'last': How(1, lambda path, depth, size: depth <= size),
        'bias': How(0, lambda path, depth, size: path.endswith('.bias')),
        'lora': How(8, add=_add_low_rank),
        'adapter': How(64, add=_add_adapters),
        'prompt': How(10, add=_add_prompts),
    }
)


def tune(model: ImageClassifier, how: str, size: int = 0, *, rngs: nnx.Rngs) -> None:
    """Makes few parameters of a network those that train, in place; the others are held.

    Paths of what was there do not change, so weights may be loaded before or after. With 'lora' and 'adapter' the
    outputs do not change at first. A BatchNorm whose scale is held normalises by its running statistics and keeps them,
    whatever the mode: the weights that stay were made for those.

    Args:
      model: as `models.create` makes it, without a method's heads.
      how: 'last' (the last blocks, and what is behind them), 'bias' (Ben Zaken et al. 2022, "BitFit"), 'lora',
        'adapter' or 'prompt'.
      size: blocks, rank, width or tokens; 0: what is usual, 1 block, 8, 64 and 10. Of no meaning for 'bias'.
      rngs: its 'params' stream is drawn from.

    Raises:
      UserError: an unknown way or size, or one that does not suit the network.
    """
    if how not in HOWS:
        raise unknown('model.tune', how, HOWS)
    chosen = HOWS[how]
    if size < 0 or (size and not chosen.size):
        raise UserError(f'model.tune_size is {size} for {how!r}: leave it out.')
    size = size or chosen.size
    depth = depths(_paths(model))
    blocks = len(_blocks(depth))
    if how == 'last' and size > blocks:
        raise UserError(f'model.tune_size is {size}, but there are {blocks} blocks: use fewer.')
    hold(
        model,
        lambda path: path.startswith('classifier.') or chosen.trains(path, depth[path], size),
    )
    chosen.add(model, size, rngs)


def merge(model: nnx.Module) -> None:
    """Adds every low-rank product to the kernel beside it, in place: the same outputs, by the network's own layers."""
    for _, module in list(nnx.iter_modules(model)):
        if not isinstance(module, Layer):
            continue
        product = getattr(module, _product(module))
        if isinstance(product, LowRank):
            change = jnp.matmul(product.down[...], product.up[...], precision='highest')
            module.kernel[...] += change.reshape(module.kernel.shape)
            setattr(module, _product(module), nnx.static(product.plain))


def count(state: nnx.State[Any, Any]) -> tuple[int, int]:
    """Returns how many parameters of a network's state train, and how many there are; the state may be abstract."""
    sizes = [
        sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.filter_state(state, kind)))
        for kind in WEIGHTS
    ]
    return sizes[0], sum(sizes)


def _paths(model: ImageClassifier) -> list[str]:
    flat = nnx.to_flat_state(nnx.state(model, WEIGHTS))
    return ['.'.join(map(str, path)) for path, _ in flat]


def _blocks(paths: Iterable[str]) -> set[tuple[int, int]]:
    return {block for path in paths if (block := block_of(path)) is not None}


def _unsuited(how: str, model: ImageClassifier, suited: str) -> UserError:
    return UserError(
        f'model.tune={how!r} does not suit {type(model).__name__}: it suits {suited}; last and bias suit every network.'
    )
