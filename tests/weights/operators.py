"""Lets torchvision, which timm imports too, be imported where it is built for another PyTorch (CUDA beside CPU)."""

import functools
import importlib
import types

import torch
from torch.library import Library


@functools.cache
def library(name: str) -> types.ModuleType:
    """Imports torchvision's or timm's module `name`.

    Compiled operators do not load where torchvision is built for another PyTorch. Nothing here needs them, but the
    import does, by name.
    """
    if not hasattr(torch.ops.torchvision, 'nms'):
        _OPERATORS.append(Library('torchvision', 'DEF'))
        for operator in ('nms', 'qnms'):
            _OPERATORS[-1].define(
                f'{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
            )
    return importlib.import_module(name)


_OPERATORS: list[Library] = []  # which are gone when it is
