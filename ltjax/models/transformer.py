"""A block of a transformer: attention between tokens, then layers over each token alone."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import normal
from jax.typing import DTypeLike

from ltjax.models.positions import rotated

INIT = normal(0.02)

linear = functools.partial(nnx.Linear, kernel_init=INIT)
# The variance is taken in two passes: one pass is inaccurate far from zero mean.
layer_norm = functools.partial(nnx.LayerNorm, use_fast_variance=False)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What all blocks of a network have in common; its values are those of `vit.ViT`."""

    width: int
    heads: int
    mlp: str = 'gelu'
    qkv_bias: bool = True
    layer_scale: float = 0.0
    epsilon: float = 1e-6
    dtype: DTypeLike = jnp.float32


def quick_gelu(x: jax.Array) -> jax.Array:
    """Returns x sigmoid(1.702 x), the approximation of the GELU that OpenAI's CLIP was trained with."""
    return x * nnx.sigmoid(1.702 * x)


class Attention(nnx.Module):
    """Self-attention of several heads; its softmax is float32, whatever `dtype` is."""

    def __init__(
        self, width: int, heads: int, *, qkv_bias: bool, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        self.heads = heads
        self.qkv = linear(width, 3 * width, use_bias=qkv_bias, dtype=dtype, rngs=rngs)
        self.project = linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, rotation: jax.Array | None = None) -> jax.Array:
        """Returns [B, T, C] of tokens [B, T, C]; for `rotation` see `positions.rotations`."""
        heads = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
        query, key, value = (part.reshape(heads) for part in jnp.split(self.qkv(x), 3, axis=-1))
        if rotation is not None:
            query, key = rotated(query, rotation), rotated(key, rotation)
        mixed = jax.nn.dot_product_attention(query, key, value)
        return self.project(mixed.reshape(x.shape))


class Mlp(nnx.Module):
    """Two layers with an activation between them."""

    def __init__(
        self,
        width: int,
        *,
        activation: Callable[[jax.Array], jax.Array],
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        self.activation = activation
        self.expand = linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.project = linear(4 * width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.project(self.activation(self.expand(x)))


class SwiGLU(nnx.Module):
    """silu(gate(x)) value(x), then a third layer (Shazeer 2020, eq. 6), as DINOv3's larger networks have it."""

    def __init__(self, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.gate = linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.value = linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.join = linear(4 * width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.join(nnx.silu(self.gate(x)) * self.value(x))


class PackedSwiGLU(nnx.Module):
    """The same with gate and value in one layer, two thirds as wide, as DINOv2's giant has it."""

    def __init__(self, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        hidden = -(-int(4 * width * 2 / 3) // 8) * 8
        self.gate_and_value = linear(width, 2 * hidden, dtype=dtype, rngs=rngs)
        self.join = linear(hidden, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        gate, value = jnp.split(self.gate_and_value(x), 2, axis=-1)
        return self.join(nnx.silu(gate) * value)


_gelu = functools.partial(nnx.gelu, approximate=False)
MLPS: Mapping[str, Callable[..., nnx.Module]] = MappingProxyType(
    {
        'gelu': functools.partial(Mlp, activation=_gelu),
        'quick_gelu': functools.partial(Mlp, activation=quick_gelu),
        'swiglu': SwiGLU,
        'swiglu_packed': PackedSwiGLU,
    }
)


class Block(nnx.Module):
    """Attention, then an MLP, either of what is normalised before and added to what was there.

    A branch is scaled per channel where there is layer scale (Touvron et al. 2021), and in training left out for whole
    images at random (stochastic depth, Huang et al. 2016); where it is kept, it grows by 1 / (1 - rate).

    Attributes:
      adapter: of the MLP's input, added to what there is after it; see `tuning`.
      prompts: tokens, and their rotations -> these with tokens of this block's own behind them; see `tuning`.
    """

    adapter: Any = None
    prompts: Any = None

    def __init__(self, plan: Plan, *, drop_path: float = 0.0, rngs: nnx.Rngs) -> None:
        width = plan.width
        shared: dict[str, Any] = {'dtype': plan.dtype, 'rngs': rngs}

        def scale() -> nnx.Param[jax.Array] | None:
            start = plan.layer_scale
            return nnx.Param(jnp.full(width, start, jnp.float32)) if start else None

        self.norm1 = layer_norm(width, epsilon=plan.epsilon, **shared)
        self.attention = Attention(width, plan.heads, qkv_bias=plan.qkv_bias, **shared)
        self.layer_scale1 = scale()
        self.norm2 = layer_norm(width, epsilon=plan.epsilon, **shared)
        self.mlp = MLPS[plan.mlp](width, **shared)
        self.layer_scale2 = scale()
        self.drop_path = nnx.Dropout(drop_path, broadcast_dims=(1, 2))

    def __call__(self, x: jax.Array, rotation: jax.Array | None = None) -> jax.Array:
        """Returns [B, T, C] of tokens [B, T, C]; for `rotation` see `positions.rotations`."""
        tokens = x.shape[1]
        if self.prompts is not None:
            x, rotation = self.prompts(x, rotation)
        x = x + self._scaled(self.attention(self.norm1(x), rotation), self.layer_scale1)
        normed = self.norm2(x)
        y = x + self._scaled(self.mlp(normed), self.layer_scale2)
        if self.adapter is not None:
            y = y + self.adapter(normed)
        return y if self.prompts is None else y[:, :tokens]

    def _scaled(self, branch: jax.Array, scale: nnx.Param[jax.Array] | None) -> jax.Array:
        if scale is not None:
            branch = branch * scale[...].astype(branch.dtype)[None, None, :]
        return self.drop_path(branch)
