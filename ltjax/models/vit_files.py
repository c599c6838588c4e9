"""Tensors of a Vision Transformer as its authors hand them on, made what the model has."""

import math
import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from ltjax.errors import UserError
from ltjax.models.positions import resampled
from ltjax.models.vit import ViT

# The first tensor of a network, by which the network is found among a text tower's, a decoder's or a student's.
_FIRST = ('patch_embed.proj.weight', 'conv1.weight')
# What is of no use for an image's features: the token of masked patches, decoders of masked autoencoders, constants
# that are computed, and the projection into a space that images share with texts.
_NEEDLESS = re.compile(
    r'mask_token|rope_embed\.periods|blocks\.\d+\.attn\.qkv\.bias_mask|decoder_.*|proj|(visual\.)?head\.proj\..*'
)


def tidied(model: ViT, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors of `tensors` that are the network's, as one of the layouts of `torch_names` has them.

    Prefixes are taken off (`visual.`, `visual.trunk.`, `encoder.`, `backbone.`, whatever comes before the patches),
    biases of queries and values alone (BEiT, PanDerm) are joined, learned positions are resampled to the model's grid,
    and those of registers are taken into the registers.

    Args:
      model: maybe abstract.
      tensors: by state-dict key.

    Raises:
      UserError: there are several networks, or positions that are for no square grid.
    """
    found = _network(tensors)
    for key in [key for key in found if key.endswith('.qkv.bias_mask')]:
        # DINOv3's keys have no bias; with rotary positions it would count.
        bias = found[key.removesuffix('_mask')].copy()
        bias[len(bias) // 3 : 2 * len(bias) // 3] = 0
        found[key.removesuffix('_mask')] = bias
    found = {key: value for key, value in found.items() if not _NEEDLESS.fullmatch(key)}
    if model.pool_norm is not None and 'fc_norm.weight' not in found:
        # What is pooled here was trained normalised before; as RETFound's authors do, its norm is left out.
        found = {
            key: value for key, value in found.items() if not re.match(r'norm\.|ln_post\.', key)
        }
    for key in [key for key in found if key.endswith('.q_bias')]:
        query = found.pop(key)
        value = found.pop(key.replace('.q_bias', '.v_bias'), None)
        if value is None:
            raise UserError(
                f'missing {key.replace(".q_bias", ".v_bias")} beside {key}: take other weights.'
            )
        # Keys have none; it would move all scores of a query alike, which a softmax does not see.
        joined = np.concatenate([query, np.zeros_like(query), value])
        found[key.replace('.q_bias', '.qkv.bias')] = joined
    return _placed(model, found)


def _network(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors behind the one prefix that a network's first tensor has."""
    prefixes = {
        key.removesuffix(first)
        for key in tensors
        for first in _FIRST
        if key == first or key.endswith(f'.{first}')
    }
    if len(prefixes) > 1:
        raise UserError(
            f'there are {len(prefixes)} networks in these weights, under {", ".join(sorted(prefixes))}: '
            'keep the tensors of one.'
        )
    prefix = prefixes.pop() if prefixes else ''
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def _placed(model: ViT, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors with positions for the model's grid and its class token alone."""
    name = next((key for key in ('pos_embed', 'positional_embedding') if key in found), None)
    stem = model.stem
    if name is None or stem.positions is None:
        return found
    positions = found[name]
    rows = positions.reshape(-1, positions.shape[-1])
    side, prefix = _grid(len(rows), stem.prefix, stem.grid, name)
    first, patches = rows[:prefix], rows[prefix:]
    placed = resampled(jnp.asarray(patches), (side, side), (stem.grid, stem.grid))
    slots = int(stem.class_token is not None)
    if prefix > slots:  # of the registers
        key = next((key for key in ('reg_token', 'register_tokens') if key in found), None)
        if key is None or prefix - slots != found[key].shape[1]:
            raise UserError(
                f'{name} has positions for {prefix} tokens before the patches, which are not there: '
                'take other weights.'
            )
        found[key] = found[key] + first[slots:]
    first = first[:slots] if prefix else np.zeros_like(rows[:slots])
    made = np.concatenate([first, np.asarray(placed)])
    return found | {name: made[None] if positions.ndim == 3 else made}


def _grid(rows: int, prefix: int, grid: int, name: str) -> tuple[int, int]:
    """Returns the side of the square grid that positions are for, and how many of them come before it.

    None comes before, that of the class token, or those of all `prefix` tokens; the model's own grid is tried first.
    """
    counts = sorted(
        {0, min(prefix, 1), prefix}, key=lambda count: (rows - count != grid**2, count != 1)
    )
    for count in counts:
        side = math.isqrt(max(rows - count, 0))
        if side and side**2 == rows - count:
            return side, count
    raise UserError(f'{name} has {rows} positions, which are no square grid: take other weights.')
