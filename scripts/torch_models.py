"""ResNet-18 and ConvNeXt-Tiny in PyTorch, for scripts/benchmark.py to measure beside ours.

The keys of their weights are torchvision's, so that both sides start from the same numbers and the benchmark
can tell that they compute the same.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18(nn.Module):
    """ResNet-18 with the ImageNet stem."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._layer(64, 64, 1)
        self.layer2 = self._layer(64, 128, 2)
        self.layer3 = self._layer(128, 256, 2)
        self.layer4 = self._layer(256, 512, 2)
        self.fc = nn.Linear(512, num_classes)

    def _layer(self, inputs: int, width: int, stride: int) -> nn.Sequential:
        return nn.Sequential(BasicBlock(inputs, width, stride), BasicBlock(width, width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [B, C, H, W]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Permute(nn.Module):
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
    'resnet18': ResNet18,
    'convnext_tiny': ConvNeXtTiny,
}


def steps(
    model: str,
    weights: Mapping[str, np.ndarray],
    num_classes: int,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    channels_last: bool,
) -> dict[str, Callable[[], torch.Tensor]]:
    """Returns functions that run a forward pass (of logits, evaluation mode) and a step of SGD (its loss).

    Args:
      model: one of MODELS.
      weights: its state dict; `num_batches_tracked` may be missing.
      num_classes: K, the length of the logits.
      images: float32 [B, 3, H, W].
      labels: int [B].
      channels_last: PyTorch's memory format.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    tensors = {key: torch.from_numpy(value.copy()) for key, value in weights.items()}
    network = MODELS[model](num_classes)
    missing, unknown = network.load_state_dict(tensors, strict=False)
    if unknown or any(not key.endswith('num_batches_tracked') for key in missing):
        raise ValueError(f'weights of another model: missing {missing}, unknown {unknown}')
    network = network.to(memory_format=layout)
    x = torch.from_numpy(images.copy()).contiguous(memory_format=layout)
    y = torch.from_numpy(labels.copy()).long()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def forward() -> torch.Tensor:
        network.eval()
        with torch.inference_mode():
            return network(x)

    def train() -> torch.Tensor:
        network.train()
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return {'forward': forward, 'train': train}
