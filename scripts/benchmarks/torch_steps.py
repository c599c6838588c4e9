"""Training in PyTorch, as well as it can: steps of cross-entropy and of LMD's first stage, and whole epochs."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from grain.sources import ArrayRecordDataSource
from torch import nn
from torch.nn import functional
from torch.optim import swa_utils
from torch.utils import data

from ltjax.data.prepared import records
from ltjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How PyTorch is told to run.

    Attributes:
      channels_last: the memory format of images and kernels.
      device: 'cpu' or 'cuda'.
      compiled: torch.compile, and autocast to bfloat16.
    """

    channels_last: bool = False
    device: str = 'cpu'
    compiled: bool = False

    def images(self, images: np.ndarray) -> torch.Tensor:
        """Returns float32 [B, 3, H, W] on the device, in the memory format."""
        return torch.from_numpy(images.copy()).to(self.device, memory_format=self.memory_format)

    def network(self, network: nn.Module) -> nn.Module:
        """Returns `network` on the device, in the memory format."""
        return network.to(self.device, memory_format=self.memory_format)

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function) if self.compiled else function

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.compiled)

    def wait(self) -> None:
        """Waits until the device has done all it was given."""
        if self.device == 'cuda':
            torch.cuda.synchronize()


def tunings(accelerator: bool) -> Mapping[str, Tuning]:
    """Returns what PyTorch may do best with: both memory formats on a CPU, the usual advice on an accelerator.

    Raises:
      UserError: JAX runs on an accelerator that PyTorch does not see.
    """
    if not accelerator:
        return {'torch': Tuning(), 'torch_channels_last': Tuning(channels_last=True)}
    if not torch.cuda.is_available():
        raise UserError('PyTorch sees no GPU: install it for CUDA, or set JAX_PLATFORMS=cpu.')
    torch.backends.cudnn.benchmark = True
    return {'torch_compiled_channels_last': Tuning(True, 'cuda', compiled=True)}


def supervised(
    network: nn.Module, images: np.ndarray, labels: np.ndarray, tuning: Tuning, *, steps: int = 1
) -> dict[str, Callable[[], torch.Tensor]]:
    """Returns functions that run forward passes (giving logits, in evaluation mode) and SGD steps (giving the loss).

    Args:
      network: gives logits.
      images: float32 [B, 3, H, W].
      labels: int [B].
      tuning: how.
      steps: of either, a call.
    """
    network = tuning.network(network)
    x, y = tuning.images(images), torch.from_numpy(labels.copy()).long().to(tuning.device)
    optimizer = _sgd(network, learning_rate=0.01, weight_decay=5e-4)
    logits = tuning.compile(network)

    def forward() -> torch.Tensor:
        network.eval()
        with torch.inference_mode(), tuning.autocast():
            for _ in range(steps):
                result = logits(x)
        tuning.wait()
        return result

    def train() -> torch.Tensor:
        network.train()
        for _ in range(steps):
            loss = _descend(logits, optimizer, x, y, tuning)
        tuning.wait()
        return loss

    return {'forward': forward, 'train': train}


def _sgd(network: nn.Module, *, learning_rate: float, weight_decay: float) -> torch.optim.SGD:
    return torch.optim.SGD(
        network.parameters(), learning_rate, 0.9, weight_decay=weight_decay, fused=True
    )


def _descend(
    logits: Callable[[torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    tuning: Tuning,
) -> torch.Tensor:
    optimizer.zero_grad(set_to_none=True)
    with tuning.autocast():
        loss = functional.cross_entropy(logits(images), labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


def stage_one(
    student: nn.Module,
    teacher: nn.Module,
    views: Mapping[str, np.ndarray],
    labels: np.ndarray,
    tuning: Tuning,
    *,
    weight: float,
    learning_rate: float,
    steps: int = 1,
) -> Callable[[], torch.Tensor]:
    """Returns a function that runs steps of LMD's first stage and gives the last loss (docs/lmd.md, `default`).

    Args:
      student: a ResNet of torch_models.
      teacher: another, of the same weights.
      views: 'strong' and 'weak', float32 [B, 3, H, W].
      labels: int [B].
      tuning: how.
      weight: of the consistency terms.
      learning_rate: of SGD.
      steps: a call.
    """
    student, teacher = tuning.network(student).train(), tuning.network(teacher).train()
    strong, weak = (tuning.images(views[name]) for name in ('strong', 'weak'))
    y = torch.from_numpy(labels.copy()).long().to(tuning.device)
    optimizer = _sgd(student, learning_rate=learning_rate, weight_decay=0.0)
    ours, theirs = list(student.parameters()), list(teacher.parameters())
    objective, number = tuning.compile(_stage_one_loss), 0

    def train() -> torch.Tensor:
        nonlocal number
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss = objective(student, teacher, strong, weak, y, weight=weight, tuning=tuning)
            loss.backward()
            optimizer.step()
            decay = min(1 - 1 / (number + 1), 0.999)
            with torch.no_grad():
                swa_utils.get_ema_multi_avg_fn(decay)(theirs, ours, number)
            number += 1
        tuning.wait()
        return loss.detach()

    return train


def _stage_one_loss(
    student: Any,
    teacher: Any,
    strong: torch.Tensor,
    weak: torch.Tensor,
    labels: torch.Tensor,
    *,
    weight: float,
    tuning: Tuning,
) -> torch.Tensor:
    with tuning.autocast():
        with torch.no_grad():
            constant = teacher.pooled(weak)
            target = teacher.fc(constant)
        features = student.pooled(strong)
        logits = student.fc(features)
    features, logits, constant, target = (x.float() for x in (features, logits, constant, target))
    consistency = (
        _relation(features, constant)
        + _relation(features.T, constant.T)
        + functional.kl_div(
            functional.log_softmax(logits, 1),
            functional.log_softmax(target, 1),
            reduction='batchmean',
            log_target=True,
        )
        / 2
    )
    return functional.cross_entropy(logits, labels) + weight * consistency


def _relation(rows: torch.Tensor, constant: torch.Tensor) -> torch.Tensor:
    ours, theirs = (functional.normalize(x @ x.T, dim=1) for x in (rows, constant))
    return (ours - theirs).square().sum() / len(rows)


class PreparedImages(data.Dataset):
    """A prepared set, decoded image by image in the workers of a DataLoader."""

    def __init__(self, root: pathlib.Path) -> None:
        made = records.read(root)
        shards = [str(root / shard['file']) for shard in made.manifest['shards']]
        self._source, self._labels = ArrayRecordDataSource(shards), made.labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        image = records.decode(self._source[row], 3)
        return torch.from_numpy(image).permute(2, 0, 1), int(self._labels[row])


def epoch(
    network: nn.Module,
    root: pathlib.Path,
    tuning: Tuning,
    *,
    batch_size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Callable[[], torch.Tensor]:
    """Returns a function that trains for an epoch from a prepared set and gives the last loss.

    There are as many worker processes as cores; they live on between epochs.
    """
    network = tuning.network(network).train()
    logits, optimizer = tuning.compile(network), _sgd(network, learning_rate=0.01, weight_decay=0.0)
    loader = data.DataLoader(
        PreparedImages(root),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,
        pin_memory=tuning.device == 'cuda',
        multiprocessing_context='spawn',  # JAX has threads, which a fork would lose
    )
    scale = (1 / (255 * torch.tensor(std)))[:, None, None].to(tuning.device)
    shift = (torch.tensor(mean) / torch.tensor(std))[:, None, None].to(tuning.device)

    def train() -> torch.Tensor:
        for images, labels in loader:
            x = images.to(tuning.device, non_blocking=True).float() * scale - shift
            x = x.contiguous(memory_format=tuning.memory_format)
            y = labels.to(tuning.device, non_blocking=True)
            loss = _descend(logits, optimizer, x, y, tuning)
        tuning.wait()
        return loss

    return train
