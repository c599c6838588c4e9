"""Lets torchvision, which timm imports too, be imported where it is built for another PyTorch (CUDA beside CPU).

Its compiled operators do not load there. Nothing here needs them, but the import does, by name.
"""

import torch
from torch.library import Library

if not hasattr(torch.ops.torchvision, 'nms'):
    _OPERATORS = Library('torchvision', 'DEF')
    for _name in ('nms', 'qnms'):
        _OPERATORS.define(f'{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
