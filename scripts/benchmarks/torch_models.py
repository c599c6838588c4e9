"""ResNets and ConvNeXt-Tiny in PyTorch, for scripts/benchmark.py to measure beside ours.

The keys of their weights are torchvision's, so that both sides start from the same numbers and the benchmark
can tell that they compute the same.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., 2016)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1; the stride is the 3x3's, as torchvision has it."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return functional.relu(self.bn3(self.conv3(x)) + shortcut)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """A ResNet with the ImageNet stem; `pooled` gives the features that its classifier sees."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        num_classes: int,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, depth in enumerate(depths):
            width, layer = 64 << number, []
            for at in range(depth):
                layer.append(block(inputs, width, 2 if number and not at else 1))
                inputs = width * block.expansion
            setattr(self, f'layer{number + 1}', nn.Sequential(*layer))
        self.fc = nn.Linear(inputs, num_classes)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x.mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pooled(x))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [B, C, H, W]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Permute(nn.Module):
    """Axes in another order."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(self.axes)


class ConvNeXtBlock(nn.Module):
    """A 7x7 depthwise convolution, then two layers over channels alone (Liu et al., 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(width, eps=1e-6),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            Permute(0, 3, 1, 2),
        )
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), 1e-6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layer_scale * self.block(x)


class ConvNeXtTiny(nn.Module):
    """ConvNeXt-Tiny without stochastic depth."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Sequential(nn.Conv2d(3, 96, 4, 4), ChannelNorm(96, eps=1e-6))]
        for width, depth in ((96, 3), (192, 3), (384, 9), (768, 3)):
            parts.append(nn.Sequential(*(ConvNeXtBlock(width) for _ in range(depth))))
            if width < 768:
                down = nn.Conv2d(width, 2 * width, 2, 2)
                parts.append(nn.Sequential(ChannelNorm(width, eps=1e-6), down))
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(
            ChannelNorm(768, eps=1e-6), nn.Flatten(1), nn.Linear(768, num_classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3), keepdim=True))


MODELS: dict[str, Callable[[int], nn.Module]] = {
    'resnet18': functools.partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    'resnet50': functools.partial(ResNet, Bottleneck, (3, 4, 6, 3)),
    'convnext_tiny': ConvNeXtTiny,
}


def load(model: str, weights: Mapping[str, np.ndarray], num_classes: int) -> nn.Module:
    """Returns a network with given weights; `num_batches_tracked` may be missing.

    Raises:
      ValueError: weights of another model.
    """
    tensors = {key: torch.from_numpy(value.copy()) for key, value in weights.items()}
    network = MODELS[model](num_classes)
    missing, unknown = network.load_state_dict(tensors, strict=False)
    if unknown or any(not key.endswith('num_batches_tracked') for key in missing):
        raise ValueError(f'weights of another model: missing {missing}, unknown {unknown}')
    return network
